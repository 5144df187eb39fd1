"""Results of a linear probe as a table and as a bar chart."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from sb_espnet_vq.evaluation.plots import draw_bars
from sb_espnet_vq.evaluation.tables import text_table

# Name of each representation in tables and plots.
REPRESENTATIONS = {
    "trained": "encoder, trained",
    "untrained": "encoder, untrained",
    "log_mel": "log-mel features",
}


def probe_table(probe: Mapping[str, Any]) -> str:
    """Format the accuracy of a linear probe on each representation as a table.

    Arguments
    ---------
    probe : dict
        From `sb_espnet_vq.training.label_probe.probe`, with accuracies for each of
        `REPRESENTATIONS`.

    Returns
    -------
    str
    """
    header = ["linear probe, accuracy", *REPRESENTATIONS.values()]
    rows = [
        [f"{row['labels']} labelled utterances"]
        + [mean(row["accuracy"][name]) for name in REPRESENTATIONS]
        for row in probe["rows"]
    ]
    draws = len(next(iter(probe["rows"][0]["accuracy"].values())))
    note = (
        f"{len(probe['classes'])} classes, {probe['test_utterances']} other "
        f"utterances, mean over {draws} draws of the labelled ones."
    )
    return f"{text_table(rows, header)}\n{note}"


def draw_probe(axes: Any, probe: Mapping[str, Any]) -> None:
    """Draw the accuracy of a linear probe on each representation as bars.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    probe
        As in `probe_table`.
    """
    groups = {
        f"{row['labels']} labelled utterances": {
            shown: row["accuracy"][name] for name, shown in REPRESENTATIONS.items()
        }
        for row in probe["rows"]
    }
    title = "Linear probe for the label on held-out speech"
    draw_bars(axes, groups, "accuracy (dots: draws)", title)
