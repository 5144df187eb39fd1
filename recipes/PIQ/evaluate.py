"""Metrics of PIQ's masks on test clips; table and plots."""

from functools import partial
from typing import Any

import torch
from data import labels_of
from evaluate_classifier import clip_results, data_title
from networks import Interpreter
from torch import Tensor

from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.explanations import explanation_figures
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.ops.usage import code_counts, usage_of_counts
from sb_espnet_vq.training.data import make_loader
from sb_espnet_vq.training.results import (
    Results,
    count_parameters,
    draw_epochs,
    write_report,
)
from sb_espnet_vq.utils.seeds import seed_of

# Compared masks and the colors of their bars.
MASKS = {
    "trained": plots.HELD_OUT,
    "untrained": plots.TRAIN,
    "random": plots.REFERENCE,
    "all ones": "#999999",
    "another's": "#009E73",
}
# Key of each metric and its column in the table.
METRICS = {
    "input_fidelity": "fidelity",
    "faithfulness": "faithfulness",
    "average_increase": "AI (%)",
    "average_drop": "AD (%)",
    "average_gain": "AG (%)",
}
NOTE = """\
fidelity: share of clips whose predicted class is the same for the masked input.
faithfulness: decrease of the probability of the class from the clip to the complement
of the masked input.
AI, AD, AG: for the masked input, share of clips with a higher probability of the class;
relative decrease of the probability; increase relative to 1 - probability. Lower is
better for AD.
another's: the trained mask of another clip. If the classes of both clips differ, the
class of the other clip is predicted in {:.1f} %; 100 % would mean that masks encode the
class and explain nothing."""

# ---- metrics


@torch.no_grad()
def evaluate(brain: Any, datasets: dict[str, Any], untrained: Interpreter) -> Results:
    """Return all results of a PIQBrain with its best checkpoint loaded."""
    hparams = vars(brain.hparams)
    classifier = hparams["classifier"]
    interpreter = hparams["interpreter"].eval()
    untrained = untrained.to(brain.device).eval()
    rows: dict[str, dict[str, list[Tensor]]]
    rows = {name: {"kept": [], "left": [], "density": []} for name in MASKS}
    whole, right, codes, followed = [], [], [], []
    for batch in make_loader(datasets["test"], hparams):
        spectrograms = brain.spectrograms(batch)
        representation, logits = classifier(spectrograms)
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
                output = classifier(part * spectrograms)[1]
                rows[name][side].append(probabilities(output))
            rows[name]["density"].append(mask.mean((1, 2)).cpu())
        followed.append(follows(rows["another's"]["kept"][-1], classes.cpu()))
        whole.append(probabilities(logits))
        right.append(classes.cpu() == labels_of(batch, hparams))
        codes.append(interpreter.codes(found.vectors, classes).cpu())
    everything = torch.cat(whole)
    return clip_results(brain, datasets) | {
        "accuracy": float(torch.cat(right).float().mean()),
        "quantizer": hparams["quantizer"],
        "masks": {name: mask_metrics(everything, row) for name, row in rows.items()},
        "class_follows_mask": float(torch.cat(followed).mean()),
        "keys": usage(torch.cat(codes)),
        "parameters": count_parameters([interpreter]),
    }


def mask_metrics(whole: Tensor, row: dict[str, list[Tensor]]) -> dict[str, float]:
    """Return `METRICS` of one mask, and the mean of the mask.

    `whole` (N, n_classes) are the probabilities for whole clips; `kept` and `left` in
    `row` are those for the masked input and its complement.
    """
    kept, left, density = (torch.cat(row[name]) for name in ("kept", "left", "density"))
    metrics = explanation_figures(whole, kept, left)._asdict()
    return metrics | {"mask_density": float(density.mean())}


def probabilities(logits: Tensor) -> Tensor:
    """Return the softmax on the CPU, in float64, which resolves values close to 1."""
    return logits.double().softmax(1).cpu()


def shuffled(masks: Tensor, names: list[str]) -> Tensor:
    """Permute the values of each mask (B, T, F); the clip's name is the seed."""
    rows = []
    for mask, name in zip(masks, names, strict=True):
        generator = torch.Generator().manual_seed(seed_of(name))
        order = torch.randperm(mask.numel(), generator=generator).to(mask.device)
        rows.append(mask.flatten()[order].view_as(mask))
    return torch.stack(rows)


def follows(kept: Tensor, classes: Tensor) -> Tensor:
    """Return whether a clip with the mask of the previous clip gets that clip's class.

    An informative mask depends on the sound to which it is applied. An adversarial mask
    encodes the class itself and yields this class for any sound.

    Arguments
    ---------
    kept : Tensor
        (B, n_classes), probabilities for clips masked by the mask of the previous clip.
    classes : Tensor
        (B,) int64, predicted class of each whole clip.

    Returns
    -------
    Tensor
        (M,) float, 1 if so, for the M clips whose class differs from that of the
        previous clip.
    """
    others = classes.roll(1)
    return (kept.argmax(1) == others)[others != classes].float()


def usage(codes: Tensor) -> dict[str, float]:
    """Return perplexity and number of codes in use, means over codebooks.

    `codes` are (N, H, W) int64, or (N, H, W, K) of K codebooks.
    """
    codes = codes.flatten(0, 2) if codes.dim() == 4 else codes.flatten()[:, None]
    # Renumber the codes, since a quantizer may have far more codes than are used.
    codes = torch.stack([column.unique(return_inverse=True)[1] for column in codes.T])
    counts = code_counts(codes.T, torch.ones(codes.shape[1]), int(codes.max()) + 1)
    perplexity, used = usage_of_counts(counts)
    return {"used": float(used), "perplexity": float(perplexity)}


# ---- table and panels


def report(results: Results, folder: str) -> None:
    """Write results.json and results.png of this training, print the table."""
    title = f"PIQ with {results['quantizer']} on {data_title(results)}"
    panels = [draw_fidelity, draw_faithfulness, draw_confidence, draw_loss]
    write_report(results, folder, title, [mask_table(results)], panels)


def mask_table(results: Results) -> str:
    """Show the metrics of each mask."""
    rows = [
        [name, *(row[metric] for metric in METRICS), row["mask_density"]]
        for name, row in results["masks"].items()
    ]
    header = ["mask", *METRICS.values(), "mean of mask"]
    keys = results["keys"]
    return (
        f"{text_table(rows, header)}\n"
        f"{NOTE.format(100 * results['class_follows_mask'])}\n"
        f"{results['clips']['test']} test clips, classifier accuracy "
        f"{100 * results['accuracy']:.1f} %; {results['quantizer']}, "
        f"{keys['used']:.0f} codes in use, perplexity {keys['perplexity']:.0f}"
    )


def draw_fidelity(axes: Any, results: Results) -> None:
    """Draw the fidelity of each mask, and the legend of all masks."""
    chance = 1 / len(results["classes"])
    draw_masks(axes, results, ["input_fidelity"], "share of clips")
    axes.set_title("Fidelity: same class for the masked input")
    axes.axhline(chance, color="k", ls="--", lw=1, label=f"chance: {chance:.2f}")
    # Outside the panels, where it would hide bars.
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False
    )


def draw_faithfulness(axes: Any, results: Results) -> None:
    """Draw the faithfulness of each mask."""
    draw_masks(axes, results, ["faithfulness"], "difference of probability")
    axes.set_title("Faithfulness: decrease for the complement")
    axes.axhline(0, color="k", lw=1)


def draw_confidence(axes: Any, results: Results) -> None:
    """Draw the change of the classifier's probability for each mask."""
    names = ["average_increase", "average_gain", "average_drop"]
    draw_masks(axes, results, names, "percent")
    axes.set_title("Confidence for the masked input (AD: lower is better)")
    axes.margins(y=0.1)


def draw_masks(axes: Any, results: Results, names: list[str], ylabel: str) -> None:
    """Draw a group of bars for each metric, one bar for each mask."""
    width = 0.8 / len(MASKS)
    for number, (mask, row) in enumerate(results["masks"].items()):
        places = [place + (number + 0.5) * width - 0.4 for place in range(len(names))]
        bars = axes.bar(
            places,
            [row[name] for name in names],
            width * 0.92,
            color=MASKS[mask],
            label=f"{mask} mask",
        )
        axes.bar_label(bars, fmt="%.2f" if len(names) == 1 else "%.1f", fontsize=8)
    shown = [METRICS[name].partition(" (")[0] for name in names]
    axes.set_xticks(range(len(names)), shown)
    axes.set(ylabel=ylabel)
    axes.grid(alpha=0.3, axis="y")


draw_loss = partial(
    draw_epochs,
    name="loss",
    title="Training: loss",
    ylabel="sum of losses (nat)",
    of="clips",
)
