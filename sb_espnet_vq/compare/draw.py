"""Plots of a comparison: metrics against bitrate, and errors against cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb_espnet_vq.compare.table import Mean, Row, average, groups
from sb_espnet_vq.compare.words import METRICS, TOKEN_ERROR, word
from sb_espnet_vq.evaluation.plots import REFERENCE, literal, new_figure, save_figure

QUALITY, COST = "quality.png", "cost.png"

# The palette of Okabe and Ito with two sets of markers, and black.
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
_MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
# What an error is drawn against.
_DRAWN_COSTS = ("codec_seconds", "codec_peak_mib", "real_time_factor")
# Their scale depends on the size of the codebooks, unlike that of others that say it.
_NOT_DRAWN = ("bitrate", "used_codes", "perplexity")
_ERRORS = ("mel_distance", "dwer", TOKEN_ERROR)


def draw_quality(path: Path, rows: Sequence[Row], title: str, spread: str) -> None:
    """Draw each metric against the bitrate, a line for each quantizer.

    Arguments
    ---------
    path : Path
        Of the picture.
    rows : Sequence[Row]
        Of all cells.
    title : str
        Of the figure.
    spread : str
        What the intervals are.
    """
    grouped = groups(rows)
    names = [n for n in METRICS if n not in _NOT_DRAWN and _known(n, grouped)]
    if not names:
        return
    figure, panels = new_figure(len(names), title)
    styles = _styles(grouped)
    for axes, name in zip(panels, names, strict=True):
        _against_bitrate(axes, name, grouped, styles)
        _draw_references(axes, name, rows)
    _legend(figure, panels, f"{spread}, quantizers side by side")
    save_figure(figure, path)


def draw_cost(path: Path, rows: Sequence[Row], title: str, spread: str) -> None:
    """Draw errors against training time, memory and speed; arguments as above."""
    grouped = groups(rows)
    costs = [n for n in _DRAWN_COSTS if _known(n, grouped, "cost")]
    errors = [n for n in _ERRORS if _known(n, grouped)]
    pairs = [(cost, error) for error in errors for cost in costs]
    if not pairs:
        return
    figure, panels = new_figure(len(pairs), title)
    styles = _styles(grouped)
    for axes, (cost, error) in zip(panels, pairs, strict=True):
        _against_cost(axes, cost, error, grouped, styles)
    _legend(figure, panels, f"{spread}; larger markers: higher bitrate")
    save_figure(figure, path)


def _known(name: str, grouped: dict, part: str = "metrics") -> bool:
    return any(average(rows, name, part) for rows in grouped.values())


def _styles(grouped: dict) -> dict[str, tuple[str, str]]:
    names = list(dict.fromkeys(name for name, _ in grouped))
    return {
        name: (_COLOURS[n % len(_COLOURS)], _MARKERS[n % len(_MARKERS)])
        for n, name in enumerate(names)
    }


def _label(name: str) -> str:
    shown = word(name)
    return f"{shown.short}, {shown.better} is better" if shown.better else shown.short


def _against_bitrate(axes: Any, name: str, grouped: dict, styles: dict) -> None:
    bitrates = sorted({bitrate for _, bitrate in grouped})
    for number, (quantizer, (colour, marker)) in enumerate(styles.items()):
        # Side by side, so that intervals do not cover each other.
        shift = 1 + 0.02 * (number - (len(styles) - 1) / 2)
        points = [
            (bitrate * shift, found)
            for bitrate in bitrates
            if (found := average(grouped.get((quantizer, bitrate), ()), name))
        ]
        if points:
            axes.errorbar(
                [x for x, _ in points],
                [point.value for _, point in points],
                yerr=_bars([point for _, point in points]),
                color=colour,
                marker=marker,
                label=literal(quantizer),
                lw=1,
                capsize=2,
                alpha=0.85,
            )
    axes.set(
        title=f"{word(name).short} against bitrate, test speech",
        xlabel="bitrate (kbit/s)",
        ylabel=_label(name),
        xscale="log",
    )
    axes.set_xticks(bitrates, [f"{rate:g}" for rate in bitrates])
    axes.minorticks_off()
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)


def _bars(points: Sequence[Mean]) -> list[list[float]]:
    """Return the lengths of error bars downwards and upwards, 0 if unknown."""
    down = [0.0 if p.low is None else max(0.0, p.value - p.low) for p in points]
    up = [0.0 if p.high is None else max(0.0, p.high - p.value) for p in points]
    return [down, up]


def _draw_references(axes: Any, name: str, rows: Sequence[Row]) -> None:
    """Draw a metric without a codec: of recordings, or of a recognizer of them."""
    recognizers = [row for row in rows if row.cell.name is None]
    for label, found in (
        ("log-mel features, no codec", average(recognizers, name)),
        ("recordings", average(rows, name, "recordings")),
    ):
        if found is not None:
            axes.axhline(found.value, color=REFERENCE, ls="--", label=label)


def _against_cost(
    axes: Any, cost: str, error: str, grouped: dict, styles: dict
) -> None:
    bitrates = sorted({bitrate for _, bitrate in grouped})
    for (quantizer, bitrate), rows in grouped.items():
        x, y = average(rows, cost, "cost"), average(rows, error)
        if x is None or y is None:
            continue
        colour, marker = styles[quantizer]
        axes.errorbar(
            [x.value],
            [y.value],
            xerr=_bars([x]),
            yerr=_bars([y]),
            color=colour,
            marker=marker,
            ms=5 + 3 * bitrates.index(bitrate),
            label=literal(quantizer),
            capsize=2,
            lw=1,
            alpha=0.85,
        )
    axes.set(
        title=f"{word(error).short} against {word(cost).short}",
        xlabel=_label(cost),
        ylabel=_label(error),
    )
    axes.grid(alpha=0.3)


def _legend(figure: Any, panels: Sequence[Any], title: str) -> None:
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
