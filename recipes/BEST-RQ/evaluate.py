"""Metrics of BEST-RQ on test speech; tables and plots."""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.ops.usage import code_counts, usage_of_counts
from sb_espnet_vq.training.data import make_loader
from sb_espnet_vq.training.evaluation import missing_training_speech
from sb_espnet_vq.training.label_codes import label_purity
from sb_espnet_vq.training.label_probe import probe
from sb_espnet_vq.training.results import (
    Results,
    count_parameters,
    draw_epochs,
    training_results,
    write_report,
)
from sb_espnet_vq.utils.speech_batch import SpeechBatch

# ---- metrics


def evaluate(
    brain: Any, datasets: dict[str, Any], untrained: tuple[nn.Module, nn.Module]
) -> Results:
    """Return all results of a Brain after testing its best checkpoint.

    `untrained` contains the front end and the encoder with their initial weights.
    """
    hparams = vars(brain.hparams)
    counts = training_counts(brain, datasets["train"])
    represent_batch = partial(represent, brain, untrained)
    return training_results(brain, datasets) | {
        "parameters": count_parameters(
            hparams[name] for name in ("CNN", "wrapper", "linear")
        ),
        "test": masked_prediction(brain.test_sums, counts),
        "label_counts": counts.long().squeeze(0).tolist(),
        "label_purity": label_purity(
            datasets["test"], partial(targets_of, brain), hparams
        ),
        "probe": probe(datasets, represent_batch, hparams),
    }


def masked_prediction(sums: dict[str, Tensor], counts: Tensor) -> dict[str, float]:
    """Compare predictions of masked labels with baselines from label frequencies.

    Arguments
    ---------
    sums : dict[str, Tensor]
        Sums over masked stacks of test speech; `targets` are their label counts.
    counts : Tensor
        (K, cb_vocab) label counts of the training speech, which give the frequencies.

    Returns
    -------
    dict[str, float]
        Entropies and cross-entropies in nats. All metrics are means over the K
        codebooks. The ratio of accuracies assumes at least one stack with the most
        frequent label.
    """
    masked = max(1.0, float(sums["masked"]) * len(counts))
    targets = sums["targets"].cpu()
    # Add-one smoothing, for labels that do not occur in the training speech.
    surprise = -torch.log((counts + 1) / (counts + 1).sum(1, keepdim=True))
    probs = counts / counts.sum(1, keepdim=True)
    perplexity, used = usage_of_counts(counts)
    accuracy = float(sums["correct"]) / masked
    loss = float(sums["loss"]) / masked
    commonest = float(targets.gather(1, counts.argmax(1, keepdim=True)).sum()) / masked
    unigram = float((targets * surprise).sum()) / masked
    return {
        "masked_stacks": int(sums["masked"]),
        "accuracy": accuracy,
        "commonest_label_accuracy": commonest,
        "accuracy_ratio": accuracy / max(commonest, 1 / masked),
        "loss": loss,
        "unigram_loss": unigram,
        "nats_below_unigram": unigram - loss,
        "unigram_entropy": float(torch.special.entr(probs).sum(1).mean()),
        "label_perplexity": float(perplexity),
        "used_labels": round(float(used)),
        "codebook_size": counts.shape[1],
        "n_codebooks": len(counts),
    }


def training_counts(brain: Any, dataset: Any) -> Tensor:
    """Count the labels of training speech: (K, cb_vocab) float64, on the CPU.

    Those of an evaluated run without its training speech are in its results.
    """
    hparams = vars(brain.hparams)
    missing = missing_training_speech(hparams)
    if missing is None:
        return count_labels(brain, make_loader(dataset, hparams))
    finished = Path(hparams["evaluated"]["run"], "results.json")
    if not finished.is_file():
        raise CorpusError(
            f"the frequencies of labels cannot be counted: {missing}, and there is no "
            f"{finished}"
        )
    counts = json.loads(finished.read_text(encoding="utf-8"))["label_counts"]
    return torch.tensor(counts, dtype=torch.float64).view(-1, hparams["cb_vocab"])


@torch.no_grad()
def count_labels(brain: Any, batches: Iterable[SpeechBatch]) -> Tensor:
    """Count the labels of unmasked speech: (K, cb_vocab) float64, on the CPU."""
    brain.modules.eval()
    counts = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        features = brain.features(batch)
        labels = brain.label(features)
        labels = labels[features.valid_stacks(labels.shape[1])]
        counts = counts + count_codes(labels, brain.hparams.cb_vocab).cpu()
    return counts


def count_codes(labels: Tensor, size: int) -> Tensor:
    """Count the labels (N, K) of each codebook of ``size`` codes: (K, size) int64."""
    return code_counts(labels, torch.ones_like(labels), size)


def targets_of(brain: Any, batch: SpeechBatch) -> dict[str, list[Tensor]]:
    """Return the labels that the encoder learns to predict, of each row (stacks, K)."""
    brain.modules.eval()
    features = brain.features(batch)
    rows = zip(brain.label(features), features.stacks.tolist(), strict=True)
    return {"targets of the prediction": [labels[:count] for labels, count in rows]}


def represent(
    brain: Any, untrained: tuple[nn.Module, nn.Module], batch: SpeechBatch
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the frames for the probe, and the number of valid ones in each row.

    The representations are the trained encoder, the untrained encoder, and their input.
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


# ---- tables and panels


def report(results: Results, folder: str) -> None:
    """Write results.json and results.png into the output folder, print the tables."""
    test, minutes = results["test"], results["minutes"]
    title = (
        f"BEST-RQ on {minutes['train']:.0f} min of speech, {results['steps']} steps; "
        f"on {minutes['test']:.1f} min of test speech: accuracy "
        f"{test['accuracy']:.3f}, {test['loss']:.2f} nat"
    )
    panels = [draw_loss, draw_accuracy, draw_labels]
    write_report(results, folder, title, [prediction_table(test)], panels)


def prediction_table(test: dict[str, float]) -> str:
    """Return a table of the model and of baselines from label frequencies."""
    lower = test["nats_below_unigram"]
    header = ("masked held-out speech", "model", "frequencies alone", "difference")
    rows = [
        (
            "accuracy",
            test["accuracy"],
            test["commonest_label_accuracy"],
            f"{test['accuracy_ratio']:.1f} times",
        ),
        (
            "cross-entropy (nat)",
            test["loss"],
            test["unigram_loss"],
            f"{abs(lower):.2f} nat {'lower' if lower >= 0 else 'higher'}",
        ),
    ]
    note = (
        "Frequencies alone: always the most frequent label; the unigram distribution\n"
        f"(entropy on training speech: {test['unigram_entropy']:.3f} nat). "
        f"Labels: {test['used_labels']} of {test['codebook_size']} used, "
        f"perplexity {test['label_perplexity']:.1f}."
    )
    if test["n_codebooks"] > 1:
        note += f"\nMeans over {test['n_codebooks']} codebooks."
    return f"{text_table(rows, header)}\n{note}"


def draw_loss(axes: Any, results: Results) -> None:
    """Draw the cross-entropy of each epoch."""
    alone = results["test"]["unigram_loss"], "label frequencies alone"
    title, ylabel = "Masked labels: cross-entropy", "nat per masked label"
    draw_epochs(axes, results, "loss", title, ylabel, alone)
    axes.set_ylim(bottom=0)


def draw_accuracy(axes: Any, results: Results) -> None:
    """Draw the accuracy of each epoch."""
    alone = results["test"]["commonest_label_accuracy"], "most frequent label"
    title, ylabel = "Masked labels: accuracy", "accuracy"
    draw_epochs(axes, results, "accuracy", title, ylabel, alone)
    axes.set_ylim(bottom=0)


def draw_labels(axes: Any, results: Results) -> None:
    """Draw how often each label is used."""
    counts, perplexity = results["label_counts"], results["test"]["label_perplexity"]
    # With several codebooks, the most frequent codes of all of them, and so on.
    ranked = torch.tensor(counts).sort(-1, descending=True).values
    plots.draw_usage(
        axes, ranked.view(-1, ranked.shape[-1]).sum(0).tolist(), perplexity
    )
