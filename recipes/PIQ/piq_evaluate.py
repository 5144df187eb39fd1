"""What the classifier makes of masked test sounds, with the trained mask and others."""

import torch
from piq_data import labels_of
from speechbrain.utils.distributed import if_main_process

from sb_espnet_vq.evaluation.explanations import explanation_figures
from sb_espnet_vq.ops.usage import code_counts, usage_of_counts
from sb_espnet_vq.training.data import make_loader, minutes
from sb_espnet_vq.utils.seeds import seed_of

MASKS = ("trained", "untrained", "random", "all ones", "another's")


def evaluate_classifier(brain, datasets):
    """Evaluate the checkpoint with the least cross-entropy on valid.

    Arguments
    ---------
    brain : ClassifierBrain
        After training.
    datasets : dict[str, DynamicItemDataset]
        train, valid and test.

    Returns
    -------
    dict | None
        All figures, of plain numbers and lists; None but on the main process.
    """
    hparams = dict(vars(brain.hparams))
    # Loading the best checkpoint takes the record back to its epoch.
    epochs = list(brain.hparams.record.epochs)
    brain.on_evaluate_start(min_key=brain.min_key)
    if not if_main_process():
        return None
    classifier = hparams["classifier"].eval()
    right = torch.zeros(hparams["n_classes"])
    total = torch.zeros(hparams["n_classes"])
    with torch.no_grad():
        for batch in make_loader(datasets["test"], hparams):
            labels = labels_of(batch, hparams)
            said = classifier(brain.spectrograms(batch))[1].argmax(1).cpu()
            total += torch.bincount(labels, minlength=len(total))
            right += torch.bincount(labels[said == labels], minlength=len(total))
    by_class = (right / total).tolist()
    return common(brain, datasets, hparams, epochs) | {
        "accuracy": float(right.sum() / total.sum()),
        "accuracy_by_class": {
            name: share
            for name, share, count in zip(
                hparams["classes"], by_class, total.tolist(), strict=True
            )
            if count
        },
        "parameters": sum(p.numel() for p in classifier.parameters()),
    }


@torch.no_grad()
def evaluate(brain, datasets, untrained):
    """Evaluate the checkpoint with the least loss on valid.

    Arguments
    ---------
    brain : PIQBrain
        After training.
    datasets : dict[str, DynamicItemDataset]
        train, valid and test.
    untrained : Interpreter
        As it was before training.

    Returns
    -------
    dict | None
        All figures, of plain numbers and lists; None but on the main process.
    """
    hparams = dict(vars(brain.hparams))
    epochs = list(brain.hparams.record.epochs)
    brain.on_evaluate_start(min_key=brain.min_key)
    if not if_main_process():
        return None
    interpreter = hparams["interpreter"].eval()
    untrained = untrained.to(brain.device).eval()
    rows = {name: {"kept": [], "left": [], "density": []} for name in MASKS}
    whole, right, codes, followed = [], [], [], []
    for batch in make_loader(datasets["test"], hparams):
        spectrograms = brain.spectrograms(batch)
        representation, logits = hparams["classifier"](spectrograms)
        classes = logits.argmax(1)
        found = interpreter(representation, classes)
        masks = {
            "trained": found.mask,
            "untrained": untrained(representation, classes).mask,
            "random": shuffled(found.mask, batch.ids),
            "all ones": torch.ones_like(found.mask),
            "another's": found.mask.roll(1, 0),
        }
        for name, mask in masks.items():
            for side, part in (("kept", mask), ("left", 1 - mask)):
                said = hparams["classifier"](part * spectrograms)[1]
                rows[name][side].append(probabilities(said))
            rows[name]["density"].append(mask.mean((1, 2)).cpu())
        followed.append(follows(rows["another's"]["kept"][-1], classes.cpu()))
        whole.append(probabilities(logits))
        right.append(classes.cpu() == labels_of(batch, hparams))
        codes.append(interpreter.codes(found.vectors, classes).cpu())
    whole = torch.cat(whole)
    figures = {
        name: explanation_figures(
            whole, torch.cat(row["kept"]), torch.cat(row["left"])
        )._asdict()
        | {"mask_density": float(torch.cat(row["density"]).mean())}
        for name, row in rows.items()
    }
    return common(brain, datasets, hparams, epochs) | {
        "accuracy": float(torch.cat(right).float().mean()),
        "quantizer": hparams["quantizer"],
        "masks": figures,
        "class_follows_mask": float(torch.cat(followed).mean()),
        "keys": usage(torch.cat(codes)),
        "parameters": sum(p.numel() for p in interpreter.parameters()),
    }


def common(brain, datasets, hparams, epochs):
    """Figures that both trainings report.

    Arguments
    ---------
    brain : ClipBrain
        With its best checkpoint loaded.
    datasets : dict[str, DynamicItemDataset]
        train, valid and test.
    hparams : dict
        Of the training.
    epochs : list[dict]
        Figures of all epochs.

    Returns
    -------
    dict
    """
    return {
        "clips": {part: len(data) for part, data in datasets.items()},
        "minutes": {part: minutes(data) for part, data in datasets.items()},
        "classes": hparams["classes"],
        "clip_seconds": hparams["spectrogram"].samples / hparams["sample_rate"],
        "steps": epochs[-1]["step"],
        "best_epoch": brain.hparams.record.epochs[-1]["epoch"],
        "epochs": epochs,
        "seconds": brain.seconds,
    }


def probabilities(logits):
    """Softmax, precise enough to tell 1 from almost 1.

    Arguments
    ---------
    logits : torch.Tensor
        (B, n_classes).

    Returns
    -------
    torch.Tensor
        (B, n_classes) float64 on the CPU.
    """
    return logits.double().softmax(1).cpu()


def shuffled(masks, names):
    """Move the values of each mask to random places: equally dense, and about nothing.

    Arguments
    ---------
    masks : torch.Tensor
        (B, T, F).
    names : list[str]
        Of the clips, each a seed.

    Returns
    -------
    torch.Tensor
        (B, T, F).
    """
    rows = []
    for mask, name in zip(masks, names, strict=True):
        generator = torch.Generator().manual_seed(seed_of(name))
        order = torch.randperm(mask.numel(), generator=generator).to(mask.device)
        rows.append(mask.flatten()[order].view_as(mask))
    return torch.stack(rows)


def follows(kept, classes):
    """Whether a clip under the mask of the one before it is taken for that one.

    A mask that shows what is in a sound needs that sound; one that carries the class
    itself, as a pattern that the classifier falls for, makes any sound that class.

    Arguments
    ---------
    kept : torch.Tensor
        (B, n_classes), probabilities for what the other's mask keeps.
    classes : torch.Tensor
        (B,) int64, what the classifier says of each whole clip.

    Returns
    -------
    torch.Tensor
        (M,) float, 1 where it is so, for the M clips whose class is not the other's.
    """
    others = classes.roll(1)
    return (kept.argmax(1) == others)[others != classes].float()


def usage(codes):
    """How many keys are used, and how evenly.

    Arguments
    ---------
    codes : torch.Tensor
        (N, H, W) or (N, H, W, K) int64.

    Returns
    -------
    dict[str, float]
        Means over codebooks.
    """
    codes = codes.flatten(0, 2) if codes.dim() == 4 else codes.flatten()[:, None]
    # Numbers as they come up: a family may have far more codes than are ever used.
    codes = torch.stack([column.unique(return_inverse=True)[1] for column in codes.T])
    counts = code_counts(codes.T, torch.ones(codes.shape[1]), int(codes.max()) + 1)
    perplexity, used = usage_of_counts(counts)
    return {"used": float(used), "perplexity": float(perplexity)}
