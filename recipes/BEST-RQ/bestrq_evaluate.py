"""What the model has learnt, measured on held-out speech."""

from functools import partial

import torch
from speechbrain.utils.distributed import if_main_process

from sb_espnet_vq.ops.usage import usage_of_counts
from sb_espnet_vq.training.data import make_loader, minutes
from sb_espnet_vq.training.label_probe import probe


def evaluate(brain, datasets, untrained):
    """Evaluate the checkpoint with the lowest validation loss.

    Arguments
    ---------
    brain : BestRQBrain
        After training.
    datasets : dict[str, DynamicItemDataset]
        train, valid and test.
    untrained : tuple[torch.nn.Module, torch.nn.Module]
        Front end and encoder as they were before training.

    Returns
    -------
    dict | None
        All figures, of plain numbers and lists; None but on the main process.
    """
    hparams = vars(brain.hparams)
    # Loading the best checkpoint takes the record back to its epoch.
    epochs = list(brain.hparams.record.epochs)
    brain.evaluate(make_loader(datasets["test"], hparams), min_key="loss")
    if not if_main_process():
        return None
    counts = count_labels(brain, make_loader(datasets["train"], hparams))
    trained = (hparams[name] for name in ("CNN", "wrapper", "linear"))
    parameters = sum(p.numel() for part in trained for p in part.parameters())
    return {
        "utterances": {part: len(data) for part, data in datasets.items()},
        "minutes": {part: minutes(data) for part, data in datasets.items()},
        "parameters": parameters,
        "steps": epochs[-1]["step"],
        "best_epoch": brain.hparams.record.epochs[-1]["epoch"],
        "test": masked_prediction(brain.test_sums, counts),
        "label_counts": [int(count) for count in counts],
        "probe": probe(datasets, partial(represent, brain, untrained), hparams),
        "epochs": epochs,
        "seconds": brain.seconds,
    }


def masked_prediction(sums, counts):
    """Compare predictions of masked labels with knowing label frequencies alone.

    Arguments
    ---------
    sums : dict[str, torch.Tensor]
        Over held-out masked stacks, with `targets`, the labels' counts there.
    counts : torch.Tensor
        (V,) labels of the training speech, which give the frequencies.

    Returns
    -------
    dict[str, float]
        Entropies and cross-entropies in nats. The ratio of accuracies counts at
        least one stack for the commonest label.
    """
    masked = max(1.0, float(sums["masked"]))
    targets = sums["targets"].cpu()
    # One is added to each count, for a label that training speech lacks.
    surprise = -torch.log((counts + 1) / (counts + 1).sum())
    probs = counts / counts.sum()
    perplexity, used = usage_of_counts(counts[None])
    accuracy = float(sums["correct"]) / masked
    loss = float(sums["loss"]) / masked
    commonest = float(targets[counts.argmax()]) / masked
    unigram = float((targets * surprise).sum()) / masked
    return {
        "masked_stacks": int(sums["masked"]),
        "accuracy": accuracy,
        "commonest_label_accuracy": commonest,
        "accuracy_ratio": accuracy / max(commonest, 1 / masked),
        "loss": loss,
        "unigram_loss": unigram,
        "nats_below_unigram": unigram - loss,
        "unigram_entropy": float(torch.special.entr(probs).sum()),
        "label_perplexity": float(perplexity),
        "used_labels": int(used),
        "codebook_size": len(counts),
    }


@torch.no_grad()
def count_labels(brain, batches):
    """Count the labels that the quantizer gives to unmasked speech.

    Arguments
    ---------
    brain : BestRQBrain
        Has the quantizer.
    batches : Iterable[SpeechBatch]
        The speech.

    Returns
    -------
    torch.Tensor
        (V,) float64, on the CPU.
    """
    brain.modules.eval()
    counts = torch.zeros(brain.hparams.cb_vocab, dtype=torch.float64)
    for batch in batches:
        features = brain.features(batch)
        labels = brain.label(features)
        labels = labels[features.real_stacks(labels.shape[1])]
        counts += torch.bincount(labels, minlength=len(counts)).cpu()
    return counts


def represent(brain, untrained, batch):
    """What the probe compares: trained, untrained and no encoder.

    Arguments
    ---------
    brain : BestRQBrain
        Has features and the layer to probe.
    untrained : tuple[torch.nn.Module, torch.nn.Module]
        Front end and encoder before training.
    batch : SpeechBatch
        Whole utterances.

    Returns
    -------
    dict[str, tuple[torch.Tensor, torch.Tensor]]
        Frames and numbers of real ones, also of `log_mel`, the encoders' input.
    """
    encoders = {
        "trained": (brain.hparams.CNN, brain.hparams.wrapper),
        "untrained": untrained,
    }
    brain.modules.eval()
    features = brain.features(batch)
    steps = features.stacks.clamp(min=1)
    frames = {"log_mel": (features.frames, features.lengths)}
    for name, modules in encoders.items():
        for module in modules:
            module.eval()
        hidden = brain.encode(features, *modules)[brain.hparams.probe_layer]
        frames[name] = hidden, steps
    return frames
