"""Ratios as bars, and cost as it grows, in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb_espnet_vq.bench.case import FAISS, FLOOR, OURS, PLAIN, UPSTREAM, VQP
from sb_espnet_vq.bench.runner import CaseFigures
from sb_espnet_vq.bench.sweeps import Line, SweepFigures
from sb_espnet_vq.evaluation.plots import save_figure

# Colour-blind safe (Okabe and Ito), with a marker each for print in grey.
_LOOKS = {
    OURS: ("#0072B2", "o", "this package"),
    UPSTREAM: ("#D55E00", "s", "class it replaces"),
    VQP: ("#56B4E9", "^", "vector-quantize-pytorch"),
    FAISS: ("#009E73", "v", "faiss"),
    PLAIN: ("#999999", "D", "plain torch"),
    FLOOR: ("black", "", "floor: bare products and bytes"),
}


def save_plot(
    path: str | Path,
    cases: Sequence[CaseFigures],
    sweeps: Sequence[SweepFigures],
    where: str,
) -> None:
    """Draw all figures and save them, whole or not at all.

    Arguments
    ---------
    path : str or Path
        Its suffix chooses the format.
    cases : sequence of CaseFigures
    sweeps : sequence of SweepFigures
        May be empty.
    where : str
        The machine, for the title.
    """
    from matplotlib.figure import Figure

    columns = max(1, len(sweeps))
    heights = [1.3, 1, 1] if sweeps else [1]
    figure = Figure(figsize=(15, 4.6 * sum(heights)), layout="constrained")
    figure.suptitle(f"Cost of quantizers, {where}", fontweight="bold")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    draw_ratios(figure.add_subplot(grid[0, :]), cases)
    for column, sweep in enumerate(sweeps):
        draw_sweep(figure.add_subplot(grid[1, column]), sweep, "time")
        draw_sweep(figure.add_subplot(grid[2, column]), sweep, "memory")
    save_figure(figure, path)


def draw_ratios(axes: Any, cases: Sequence[CaseFigures]) -> None:
    """Draw how many times longer than ours each contender takes.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
    cases : sequence of CaseFigures
    """
    for place, case in enumerate(cases):
        found = {each.name: case.ratio(each, OURS) for each in case.contenders}
        ratios = {name: ratio for name, ratio in found.items() if ratio}
        _draw_floor(axes, place, ratios.pop(FLOOR, None))
        ratios.pop(OURS, None)
        _draw_bars(axes, place, ratios)
    axes.axhline(1, color=_LOOKS[OURS][0], lw=2, ls="--", label="this package = 1")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # Room for the figures at the bars, and above them for the legend.
    axes.set_ylim(low / 1.6, high * 3)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xticks(range(len(cases)), [case.name for case in cases])
    axes.set_xlim(-0.6, max(len(cases), 1) - 0.4)
    axes.set(ylabel="time, as a multiple of ours", title="Above 1: slower than ours")
    handles, labels = axes.get_legend_handles_labels()
    each_once = dict(zip(labels, handles, strict=True))
    axes.legend(
        each_once.values(), each_once, frameon=False, ncols=6, loc="upper center"
    )
    axes.grid(alpha=0.3, axis="y")


def _draw_bars(axes: Any, place: int, ratios: dict[str, float]) -> None:
    width = 0.8 / max(2, len(ratios))
    for number, (name, ratio) in enumerate(ratios.items()):
        colour, _, label = _LOOKS[name]
        x = place + (number - (len(ratios) - 1) / 2) * width
        # From 1 up or down, since a logarithmic axis has no zero.
        bar = axes.bar(x, ratio - 1, width * 0.9, bottom=1, color=colour, label=label)
        axes.bar_label(bar, [_times(ratio)], padding=2, fontsize=9)


def _draw_floor(axes: Any, place: int, ratio: float | None) -> None:
    if ratio is None:
        return
    colour, _, label = _LOOKS[FLOOR]
    axes.hlines(ratio, place - 0.42, place + 0.42, color=colour, lw=2, label=label)
    axes.annotate(
        _times(ratio),
        (place, ratio),
        (0, -3),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=9,
    )


def draw_sweep(axes: Any, sweep: SweepFigures, what: str) -> None:
    """Draw cost against a size.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
    sweep : SweepFigures
    what : str
        "time" or "memory".
    """
    from matplotlib.ticker import LogLocator

    for line in sweep.lines:
        colour, marker, label = _LOOKS[line.name]
        points = _points(line, what)
        axes.plot(line.values, points, color=colour, marker=marker, label=label, lw=1.8)
    # Bits are logarithms already.
    axes.set(xscale="linear" if sweep.size == "bits" else "log", yscale="log")
    values = sorted({value for line in sweep.lines for value in line.values})
    axes.set_xticks(values, [str(value) for value in values], fontsize=8)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.minorticks_off()
    unit = "time of a call (ms)" if what == "time" else "extra peak memory (MiB)"
    axes.set(xlabel=sweep.label, ylabel=unit)
    if what == "time":
        axes.set_title(f"{sweep.case}: {sweep.title}", fontsize=10, wrap=True)
        axes.legend(frameon=False, fontsize=8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(alpha=0.3)


def _points(line: Line, what: str) -> list[float]:
    if what == "time":
        return [1000 * seconds for seconds in line.median_s]
    # A logarithmic axis has no zero; a page is the least that is seen.
    return [max(size, 4096) / 2**20 for size in line.extra_peak_bytes]


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 9.95 else f"{ratio:.2g}x"
