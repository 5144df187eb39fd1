"""Plots of relative times, and of time and memory against size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb_espnet_vq.bench.case import FAISS, FLOOR, OURS, PLAIN, UPSTREAM, VQP
from sb_espnet_vq.bench.runner import CaseResult
from sb_espnet_vq.bench.sweeps import Line, SweepResult
from sb_espnet_vq.evaluation.plots import save_figure

# Color-blind-safe palette (Okabe and Ito); markers distinguish lines in grayscale.
_STYLES = {
    OURS: ("#0072B2", "o", "this package"),
    UPSTREAM: ("#D55E00", "s", "class it replaces"),
    VQP: ("#56B4E9", "^", "vector-quantize-pytorch"),
    FAISS: ("#009E73", "v", "faiss"),
    PLAIN: ("#999999", "D", "plain torch"),
    FLOOR: ("black", "", "lower bound of the cost"),
}


def save_plot(
    path: str | Path,
    cases: Sequence[CaseResult],
    sweeps: Sequence[SweepResult],
    where: str,
) -> None:
    """Draw all results and save the figure atomically.

    Arguments
    ---------
    path : str or Path
        Its suffix determines the format.
    cases : sequence of CaseResult
    sweeps : sequence of SweepResult
        May be empty.
    where : str
        Name of the machine, for the title.
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


def draw_ratios(axes: Any, cases: Sequence[CaseResult]) -> None:
    """Draw the time of each contender relative to ours.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
    cases : sequence of CaseResult
    """
    for position, case in enumerate(cases):
        all_ratios = {each.name: case.ratio(each, OURS) for each in case.contenders}
        ratios = {name: ratio for name, ratio in all_ratios.items() if ratio}
        _draw_lower_bound(axes, position, ratios.pop(FLOOR, None))
        ratios.pop(OURS, None)
        _draw_bars(axes, position, ratios)
    axes.axhline(1, color=_STYLES[OURS][0], lw=2, ls="--", label="this package = 1")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # Space for the numbers at the bars, and for the legend above them.
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


def _draw_bars(axes: Any, position: int, ratios: dict[str, float]) -> None:
    width = 0.8 / max(2, len(ratios))
    for number, (name, ratio) in enumerate(ratios.items()):
        colour, _, label = _STYLES[name]
        x = position + (number - (len(ratios) - 1) / 2) * width
        # Bars start at 1, since a logarithmic axis has no zero.
        bar = axes.bar(x, ratio - 1, width * 0.9, bottom=1, color=colour, label=label)
        axes.bar_label(bar, [_times(ratio)], padding=2, fontsize=9)


def _draw_lower_bound(axes: Any, position: int, ratio: float | None) -> None:
    if ratio is None:
        return
    colour, _, label = _STYLES[FLOOR]
    left, right = position - 0.42, position + 0.42
    axes.hlines(ratio, left, right, color=colour, lw=2, label=label)
    axes.annotate(
        _times(ratio),
        (position, ratio),
        (0, -3),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=9,
    )


def draw_sweep(axes: Any, sweep: SweepResult, what: str) -> None:
    """Draw time or memory against a size.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
    sweep : SweepResult
    what : str
        "time" or "memory".
    """
    from matplotlib.ticker import LogLocator

    for line in sweep.lines:
        colour, marker, label = _STYLES[line.name]
        points = _points(line, what)
        axes.plot(line.values, points, color=colour, marker=marker, label=label, lw=1.8)
    # Bits are already logarithms of the codebook size.
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
    # A logarithmic axis has no zero; the resolution of the measurement is one page.
    return [max(size, 4096) / 2**20 for size in line.extra_peak_bytes]


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 9.95 else f"{ratio:.2g}x"
