"""A linear probe for the label of an utterance, on frozen features."""

import logging
from typing import NamedTuple

import torch
from bestrq_data import make_loader

from sb_espnet_vq.evaluation.probe import draw_labelled, probe_accuracy
from sb_espnet_vq.lobes.batches import JoinShort

logger = logging.getLogger(__name__)

# Labelled utterances that a probe needs.
FEWEST = 10


class Pooled(NamedTuple):
    """Features of utterances, pooled over time, and their labels.

    features : representation to (N, D) float32; labels : N texts.
    """

    features: dict[str, torch.Tensor]
    labels: list[str]


def probe(brain, datasets, untrained):
    """Compare what trained, untrained and no encoder make easy to tell.

    Arguments
    ---------
    brain : BestRQBrain
        After training.
    datasets : dict[str, DynamicItemDataset]
        The probe is trained on utterances of train, tested on those of test.
    untrained : tuple[torch.nn.Module, torch.nn.Module]
        Front end and encoder before training.

    Returns
    -------
    dict
        `rows`, one per number of labelled utterances, with the accuracies over
        draws of them for each representation; no rows where labels are missing.
    """
    encoders = {
        "trained": (brain.hparams.CNN, brain.hparams.wrapper),
        "untrained": untrained,
    }
    train, test = (pool(brain, datasets[part], encoders) for part in ("train", "test"))
    classes = sorted(set(train.labels) & set(test.labels))
    known = sum(label in classes for label in train.labels)
    if len(classes) < 2 or known < FEWEST:
        logger.info("too few labels that train and test share: no probe")
        return {"classes": classes, "rows": []}
    counts = {min(count, known) for count in brain.hparams.probe_labels}
    rows = [
        compare(train, test, classes, count, brain.hparams.probe_draws)
        for count in sorted(counts, reverse=True)
    ]
    told = sum(label in classes for label in test.labels)
    return {"classes": classes, "test_utterances": told, "rows": rows}


@torch.no_grad()
def pool(brain, dataset, encoders):
    """Mean-pool frozen features of every labelled utterance.

    Arguments
    ---------
    brain : BestRQBrain
        Has features and the layer to probe.
    dataset : DynamicItemDataset
        Utterances without a label are passed over.
    encoders : dict[str, tuple[torch.nn.Module, torch.nn.Module]]
        Front end and encoder by name.

    Returns
    -------
    Pooled
        One representation per encoder, and `log_mel`, the encoders' input.
    """
    brain.modules.eval()
    labelled = dataset.filtered_sorted(key_test={"label": bool})
    # The loader keeps the order of the data, one utterance a row.
    labels = [labelled.data[name]["label"] for name in labelled.data_ids]
    if not labels:
        return Pooled({}, [])
    rows = {name: [] for name in (*encoders, "log_mel")}
    alone = JoinShort(brain.hparams.sample_rate)
    for batch in make_loader(labelled, vars(brain.hparams), collate=alone):
        features = brain.features(batch)
        steps = features.stacks.clamp(min=1)
        rows["log_mel"].append(mean_over_time(features.frames, features.lengths))
        for name, modules in encoders.items():
            for module in modules:
                module.eval()
            hidden = brain.encode(features, *modules)[brain.hparams.probe_layer]
            rows[name].append(mean_over_time(hidden, steps))
    return Pooled({name: torch.cat(row).cpu() for name, row in rows.items()}, labels)


def compare(train, test, classes, count, draws):
    """Probe each representation, with the same labelled utterances for all.

    Arguments
    ---------
    train, test : Pooled
        Candidates for the labelled utterances, and those to be told.
    classes : list[str]
        Labels that occur in both; others are passed over.
    count : int
        Labelled utterances.
    draws : int
        How often they are drawn anew.

    Returns
    -------
    dict
        labels : int, how many there were; by representation the list of
        accuracies, one per draw.
    """
    train_y, test_y = (
        torch.tensor([classes.index(x) if x in classes else -1 for x in part.labels])
        for part in (train, test)
    )
    known, asked = (train_y >= 0).nonzero()[:, 0], test_y >= 0
    accuracies = {name: [] for name in train.features}
    for seed in range(draws):
        drawn = known[draw_labelled(train_y[known], count, seed)]
        for name, x in train.features.items():
            score = probe_accuracy(
                x[drawn], train_y[drawn], test.features[name][asked], test_y[asked]
            )
            accuracies[name].append(score)
    return {"labels": len(drawn), "accuracy": accuracies}


def mean_over_time(x, lengths):
    """Average over each row's own real frames.

    Arguments
    ---------
    x : torch.Tensor
        (B, T, D).
    lengths : torch.Tensor
        (B,) int64, real frames, at least 1.

    Returns
    -------
    torch.Tensor
        (B, D).
    """
    real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return (x * real[..., None]).sum(1) / lengths[:, None]
