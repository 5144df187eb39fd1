"""What the model has learnt, measured on held-out speech."""

from functools import partial

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process
from wav2vec2_brain import Networks

from sb_espnet_vq.training.checkpoints import TrainingRecord
from sb_espnet_vq.training.data import make_loader, minutes
from sb_espnet_vq.training.label_probe import probe


def evaluate(brain, datasets, untrained):
    """Evaluate the best checkpoint, and the model as it was before training.

    Arguments
    ---------
    brain : Wav2Vec2Brain
        After training.
    datasets : dict[str, DynamicItemDataset]
        train, valid and test.
    untrained : Networks
        The model before training.

    Returns
    -------
    dict | None
        All figures, of plain numbers and lists; None but on the main process.
    """
    hparams = vars(brain.hparams)
    # Loading the best checkpoint takes the record back to its epoch.
    epochs = list(brain.hparams.record.epochs)
    test = make_loader(datasets["test"], hparams)
    brain.evaluate(test, min_key=brain.min_key)
    if not if_main_process():
        return None
    untrained.front_end.gather(make_loader(datasets["train"], hparams))
    test_sums = {
        "trained": brain.test_sums,
        "untrained": sums_of(brain, untrained, test),
    }
    counts = brain.test_sums["counts"]
    return {
        "utterances": {part: len(data) for part, data in datasets.items()},
        "minutes": {part: minutes(data) for part, data in datasets.items()},
        "parameters": sum(p.numel() for part in untrained for p in part.parameters()),
        "steps": epochs[-1]["step"],
        "best_epoch": brain.hparams.record.epochs[-1]["epoch"],
        "negatives": hparams["num_negatives"],
        "entries": counts.numel(),
        "test": {
            name: contrastive_figures(brain, sums) for name, sums in test_sums.items()
        },
        "code_counts": counts.long().tolist(),
        "probe": probe(datasets, partial(represent, brain, untrained), hparams),
        "epochs": epochs,
        "seconds": brain.seconds,
    }


@torch.no_grad()
def sums_of(brain, networks, batches):
    """Evaluate a model as SpeechBrain evaluates the trained one.

    Arguments
    ---------
    brain : Wav2Vec2Brain
        Has the settings.
    networks : Networks
        The model.
    batches : Iterable[SpeechBatch]
        Held-out speech.

    Returns
    -------
    dict[str, torch.Tensor]
        Sums, for `contrastive_figures`.
    """
    record = TrainingRecord()
    for module in networks:
        module.eval()
    for batch in batches:
        brain.count(record, brain.contrast(batch, sb.Stage.TEST, networks))
    return record.running


def contrastive_figures(brain, sums):
    """Compare the predictions of a model with guessing.

    Arguments
    ---------
    brain : Wav2Vec2Brain
        Turns sums into means.
    sums : dict[str, torch.Tensor]
        Over held-out speech.

    Returns
    -------
    dict[str, float]
        Losses in nats a masked frame; perplexity and used codes are sums over
        codebooks.
    """
    figures = brain.summarise(sums)
    del figures["temperature"]
    return figures | {
        "masked_frames": int(sums["masked"]),
        "chance_loss": figures["loss"] - figures["nats_above_chance"],
        "accuracy_ratio": figures["accuracy"] / max(figures["chance"], 1e-9),
        "used_codes": int((sums["counts"] > 0).sum()),
    }


def represent(brain, untrained, batch):
    """What the probe compares: trained, untrained and no encoder.

    Arguments
    ---------
    brain : Wav2Vec2Brain
        Has the trained model and the layer to probe.
    untrained : Networks
        The model before training.
    batch : SpeechBatch
        Whole utterances.

    Returns
    -------
    dict[str, tuple[torch.Tensor, torch.Tensor]]
        Frames and numbers of real ones, also of `log_mel`, plain log-mel features.
    """
    hparams = vars(brain.hparams)
    samples = batch.samples.to(brain.device)
    features = hparams["compute_features"](batch.signals.to(brain.device))
    hop = hparams["sample_rate"] * hparams["hop_length"] // 1000
    frames = {"log_mel": (features, samples // hop + 1)}
    trained = Networks(*(hparams[name] for name in Networks._fields))
    for name, networks in {"trained": trained, "untrained": untrained}.items():
        for module in networks:
            module.eval()
        latents = brain.latents(batch, networks)
        hidden = layer_output(
            brain, latents, networks.latent_encoder, hparams["probe_layer"]
        )
        frames[name] = hidden, latents.lengths.clamp(min=1)
    return frames


def layer_output(brain, latents, encoder, layer):
    """Run an encoder and take what one of its layers makes.

    Arguments
    ---------
    brain : Wav2Vec2Brain
        Runs it.
    latents : Latents
        Unmasked.
    encoder : torch.nn.Module
        SpeechBrain's wav2vec2 `EncoderWrapper`.
    layer : int
        1 for the first layer ...; -1 for the normalised output of the last.

    Returns
    -------
    torch.Tensor
        (B, T, embedding_dim).
    """
    if layer == -1:
        return brain.encode(latents, encoder)
    caught = []
    # The wrapper passes on the last output alone.
    watched = encoder.latent_encoder.layers[layer - 1]
    hook = watched.register_forward_hook(lambda *call: caught.append(call[2][0]))
    try:
        brain.encode(latents, encoder)
    finally:
        hook.remove()
    return caught[0]
