"""Metrics of the classifier on test clips; table and plots."""

from typing import Any

import torch
from data import labels_of

from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.training.data import make_loader
from sb_espnet_vq.training.results import (
    Results,
    count_parameters,
    draw_epochs,
    training_results,
    write_report,
)


@torch.no_grad()
def evaluate(brain: Any, datasets: dict[str, Any]) -> Results:
    """Return all results of a ClassifierBrain with its best checkpoint loaded."""
    hparams = vars(brain.hparams)
    classifier = hparams["classifier"].eval()
    right = torch.zeros(hparams["n_classes"])
    total = torch.zeros(hparams["n_classes"])
    for batch in make_loader(datasets["test"], hparams):
        labels = labels_of(batch, hparams)
        output = classifier(brain.spectrograms(batch))[1].argmax(1).cpu()
        total += torch.bincount(labels, minlength=len(total))
        right += torch.bincount(labels[output == labels], minlength=len(total))
    by_class = zip(
        hparams["classes"], (right / total).tolist(), total.tolist(), strict=True
    )
    return clip_results(brain, datasets) | {
        "accuracy": float(right.sum() / total.sum()),
        "accuracy_by_class": {name: share for name, share, count in by_class if count},
        "parameters": count_parameters([classifier]),
    }


def clip_results(brain: Any, datasets: dict[str, Any]) -> Results:
    """Return the results that both trainings report."""
    hparams = vars(brain.hparams)
    return training_results(brain, datasets, "clips") | {
        "classes": hparams["classes"],
        "clip_seconds": hparams["spectrogram"].samples / hparams["sample_rate"],
    }


def report(results: Results, folder: str) -> None:
    """Write results.json and results.png of this training, print the table."""
    title = f"Classifier on {data_title(results)}"
    write_report(
        results, folder, title, [class_table(results)], [draw_loss, draw_accuracy]
    )


def class_table(results: Results) -> str:
    """Show the accuracy for each class."""
    rows = [*results["accuracy_by_class"].items(), ("all", results["accuracy"])]
    clips = results["clips"]["test"]
    return f"{text_table(rows, ['class', 'accuracy'])}\n{clips} test clips"


def data_title(results: Results) -> str:
    """Return the part of a title that describes the training and test data."""
    clips = results["clips"]
    return (
        f"{clips['train']} clips of {len(results['classes'])} classes, "
        f"{results['steps']} steps; evaluated on {clips['test']} test clips"
    )


def draw_loss(axes: Any, results: Results) -> None:
    """Draw the loss of each epoch."""
    title, ylabel = "Training: loss", "cross-entropy (nat)"
    draw_epochs(axes, results, "loss", title, ylabel, of="clips")


def draw_accuracy(axes: Any, results: Results) -> None:
    """Draw the accuracy of each epoch, and that on test clips."""
    title = "Training: accuracy"
    draw_epochs(axes, results, "accuracy", title, "accuracy", of="clips")
    axes.axhline(
        results["accuracy"],
        color=plots.REFERENCE,
        ls="--",
        label=f"test clips, best epoch: {results['accuracy']:.3f}",
    )
    axes.legend(frameon=False, loc="lower right")
