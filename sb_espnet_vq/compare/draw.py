"""Plots of a comparison: metrics against bitrate, and errors against cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb_espnet_vq.compare.panels import (
    COLOURS,
    MARKERS,
    axis_label,
    draw_legend,
    draw_references,
    error_bars,
    is_known,
    new_panels,
    styles_of,
)
from sb_espnet_vq.compare.table import Row, average, groups
from sb_espnet_vq.compare.words import METRICS, TOKEN_ERROR, word
from sb_espnet_vq.evaluation.plots import literal, save_figure

QUALITY, ALL, COST = "quality.png", "metrics.png", "cost.png"

# What an error is drawn against.
_DRAWN_COSTS = ("codec_seconds", "codec_peak_mib", "real_time_factor")
# Their scale depends on the size of the codebooks, unlike that of others that say it.
_AGAINST_BITRATE = (
    "si_sdr",
    "mel_distance",
    "stoi",
    "pesq",
    "dwer",
    TOKEN_ERROR,
    "used_share",
    "entropy_bitrate",
)
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
    names = [n for n in _AGAINST_BITRATE if is_known(n, grouped)]
    if not names:
        return
    figure, panels = new_panels(len(names), title)
    styles = styles_of(grouped)
    for axes, name in zip(panels, names, strict=True):
        _against_bitrate(axes, name, grouped, styles)
        draw_references(axes.axhline, name, rows)
    draw_legend(figure, panels, f"{spread}, quantizers side by side")
    save_figure(figure, path)


def draw_metrics(path: Path, rows: Sequence[Row], title: str, spread: str) -> None:
    """Draw all metrics, a line for each quantizer; arguments as above."""
    grouped = groups(rows)
    names = [n for n in METRICS if n not in _NOT_DRAWN and is_known(n, grouped)]
    if not names:
        return
    figure, panels = new_panels(len(names), title, 3)
    for axes, name in zip(panels, names, strict=True):
        _by_quantizer(axes, name, grouped)
        draw_references(axes.axvline, name, rows)
    draw_legend(figure, panels, spread)
    save_figure(figure, path)


def draw_cost(path: Path, rows: Sequence[Row], title: str, spread: str) -> None:
    """Draw errors against training time, memory and speed; arguments as above."""
    grouped = groups(rows)
    costs = [n for n in _DRAWN_COSTS if is_known(n, grouped, "cost")]
    errors = [n for n in _ERRORS if is_known(n, grouped)]
    pairs = [(cost, error) for error in errors for cost in costs]
    if not pairs:
        return
    figure, panels = new_panels(len(pairs), title, max(2, len(costs)))
    styles = styles_of(grouped)
    for axes, (cost, error) in zip(panels, pairs, strict=True):
        _against_cost(axes, cost, error, grouped, styles)
    draw_legend(figure, panels, f"{spread}; larger markers: higher bitrate")
    save_figure(figure, path)


def _by_quantizer(axes: Any, name: str, grouped: dict) -> None:
    """Draw a metric of all quantizers, one below the other, a colour a bitrate."""
    quantizers = list(dict.fromkeys(quantizer for quantizer, _ in grouped))
    bitrates = sorted({bitrate for _, bitrate in grouped})
    for number, bitrate in enumerate(bitrates):
        shift = 0.18 * (number - (len(bitrates) - 1) / 2)
        points = [
            (place + shift, found)
            for place, quantizer in enumerate(quantizers)
            if (found := average(grouped.get((quantizer, bitrate), ()), name))
        ]
        if points:
            axes.errorbar(
                [point.value for _, point in points],
                [y for y, _ in points],
                xerr=error_bars([point for _, point in points]),
                fmt=MARKERS[number % len(MARKERS)],
                color=COLOURS[number % len(COLOURS)],
                label=f"{bitrate:g} kbit/s",
                lw=1,
                capsize=2,
            )
    axes.set_yticks(range(len(quantizers)), [literal(name) for name in quantizers])
    axes.invert_yaxis()
    axes.set(title=f"{word(name).short}, test speech", xlabel=axis_label(name))
    axes.grid(alpha=0.3)


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
                yerr=error_bars([point for _, point in points]),
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
        ylabel=axis_label(name),
        xscale="log",
    )
    axes.set_xticks(bitrates, [f"{rate:g}" for rate in bitrates])
    axes.minorticks_off()
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)


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
            xerr=error_bars([x]),
            yerr=error_bars([y]),
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
        xlabel=axis_label(cost),
        ylabel=axis_label(error),
    )
    axes.grid(alpha=0.3)
