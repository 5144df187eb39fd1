"""What the plots of a comparison share: panels, styles, intervals and legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sb_espnet_vq.compare.table import Mean, Row, average
from sb_espnet_vq.compare.words import word
from sb_espnet_vq.evaluation.plots import literal

# The palette of Okabe and Ito with two sets of markers, and black.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
_REFERENCE = "#555555"


def new_panels(count: int, title: str, columns: int = 2) -> tuple[Any, list[Any]]:
    """Return a figure and its panels, in columns."""
    from matplotlib.figure import Figure

    rows = -(-count // columns)
    size = (6 * columns, 4.2 * rows)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(literal(title), fontweight="bold")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.axis("off")
    return figure, axes[:count]


def is_known(name: str, grouped: dict, part: str = "metrics") -> bool:
    """Return whether any cell has a metric or cost."""
    return any(average(rows, name, part) for rows in grouped.values())


def styles_of(grouped: dict) -> dict[str, tuple[str, str]]:
    """Return the colour and marker of each quantizer."""
    names = list(dict.fromkeys(name for name, _ in grouped))
    return {
        name: (COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)])
        for n, name in enumerate(names)
    }


def axis_label(name: str) -> str:
    """Return the label of an axis: name, unit and direction."""
    shown = word(name)
    return f"{shown.short}, {shown.better} is better" if shown.better else shown.short


def error_bars(points: Sequence[Mean]) -> list[list[float]]:
    """Return the lengths of error bars downwards and upwards, 0 if unknown."""
    down = [0.0 if p.low is None else max(0.0, p.value - p.low) for p in points]
    up = [0.0 if p.high is None else max(0.0, p.high - p.value) for p in points]
    return [down, up]


def draw_references(line: Any, name: str, rows: Sequence[Row]) -> None:
    """Draw a line at a metric without a codec: of recordings, or their recognizer.

    line : matplotlib's axhline or axvline of a panel.
    """
    recognizers = [row for row in rows if row.cell.name is None]
    for label, found in (
        ("log-mel features, no codec", average(recognizers, name)),
        ("recordings", average(rows, name, "recordings")),
    ):
        if found is not None:
            line(found.value, color=_REFERENCE, ls="--", label=label)


def draw_legend(figure: Any, panels: Sequence[Any], title: str) -> None:
    """Draw one legend for all panels, below them."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        entries.values(),
        entries,
        loc="outside lower center",
        ncols=5,
        title=title,
        frameon=False,
    )
