"""Linear probe that predicts the label of an utterance from frozen features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from sb_espnet_vq.evaluation.probe import draw_labelled, probe_accuracy
from sb_espnet_vq.training.data import make_labelled_loader
from sb_espnet_vq.training.evaluation import missing_training_speech
from sb_espnet_vq.utils.speech_batch import SpeechBatch

# Fewest labelled utterances for which a probe is fitted.
FEWEST = 10

# Name of a representation to its frames (B, T, D) and the number of valid frames (B,).
Representations = dict[str, tuple[torch.Tensor, torch.Tensor]]


class Pooled(NamedTuple):
    """Features of utterances, pooled over time, and their labels.

    features : name of a representation to (N, D) float32; labels : N strings.
    """

    features: dict[str, torch.Tensor]
    labels: list[str]


def probe(
    datasets: Mapping[str, Any],
    represent: Callable[[SpeechBatch], Representations],
    hparams: dict[str, Any],
) -> dict[str, Any]:
    """Compare representations by linear probes for the label.

    Arguments
    ---------
    datasets : dict[str, DynamicItemDataset]
        The probe is fitted on utterances of train and tested on those of test.
    represent : callable
        Computes the frames of each representation for a batch of utterances.
    hparams : dict
        `probe_labels`, the numbers of labelled utterances, and `probe_draws`, the
        number of random draws of them.

    Returns
    -------
    dict
        `classes`; `test_utterances`, their number; `rows`, one per number of labelled
        utterances, with the accuracy of each draw for each representation. With too
        few labels, or without training speech, `rows` is empty and `left_out` says why.
    """
    missing = missing_training_speech(hparams)
    if missing is not None:
        return {"classes": [], "rows": [], "left_out": missing}
    train, test = (
        _pool(datasets[part], represent, hparams) for part in ("train", "test")
    )
    classes = sorted(set(train.labels) & set(test.labels))
    known = sum(label in classes for label in train.labels)
    if len(classes) < 2 or known < FEWEST:
        reason = (
            f"{known} training utterances have a label that test utterances have too, "
            f"with {len(classes)} different labels; at least {FEWEST} and 2 are needed"
        )
        return {"classes": classes, "rows": [], "left_out": reason}
    counts = {min(count, known) for count in hparams["probe_labels"]}
    rows = [
        _compare(train, test, classes, count, hparams["probe_draws"])
        for count in sorted(counts, reverse=True)
    ]
    tested = sum(label in classes for label in test.labels)
    return {"classes": classes, "test_utterances": tested, "rows": rows}


@torch.no_grad()
def _pool(dataset: Any, represent: Callable, hparams: dict[str, Any]) -> Pooled:
    """Mean-pool frozen features of every labelled utterance."""
    labels, batches = make_labelled_loader(dataset, hparams)
    rows: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        for name, (frames, lengths) in represent(batch).items():
            rows.setdefault(name, []).append(mean_over_time(frames, lengths))
    return Pooled({name: torch.cat(row).cpu() for name, row in rows.items()}, labels)


def _compare(
    train: Pooled, test: Pooled, classes: list[str], count: int, draws: int
) -> dict[str, Any]:
    """Probe each representation, with the same labelled utterances for all.

    Returns the number of labelled utterances and, for each representation, the accuracy
    of each draw.
    """
    train_y, test_y = (
        torch.tensor([classes.index(x) if x in classes else -1 for x in part.labels])
        for part in (train, test)
    )
    known, asked = (train_y >= 0).nonzero()[:, 0], test_y >= 0
    accuracies: dict[str, list[float]] = {name: [] for name in train.features}
    for seed in range(draws):
        drawn = known[draw_labelled(train_y[known], count, seed)]
        for name, x in train.features.items():
            score = probe_accuracy(
                x[drawn], train_y[drawn], test.features[name][asked], test_y[asked]
            )
            accuracies[name].append(score)
    return {"labels": len(drawn), "accuracy": accuracies}


def mean_over_time(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Average the valid frames of each row.

    Arguments
    ---------
    x : torch.Tensor
        (B, T, D).
    lengths : torch.Tensor
        (B,) int64, number of valid frames, at least 1.

    Returns
    -------
    torch.Tensor
        (B, D).
    """
    valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return (x * valid[..., None]).sum(1) / lengths[:, None]
