"""Plots of training curves and results, which need no display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sb_espnet_vq.utils.files import atomic_file

# From the color-blind-safe palette of Okabe and Ito; also distinct in grayscale.
TRAIN, HELD_OUT, REFERENCE = "#56B4E9", "#0072B2", "#D55E00"


class Curve(NamedTuple):
    """One panel of training curves.

    ylabel : name and unit; train, held_out : one value per epoch; reference : value and
    name of a baseline; of : kind of audio, for the legend.
    """

    title: str
    ylabel: str
    train: Sequence[float]
    held_out: Sequence[float]
    reference: tuple[float, str] | None = None
    of: str = "speech"


def draw_curve(axes: Any, curve: Curve) -> None:
    """Draw training curves into a panel.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    curve : Curve
        The curves and their labels.
    """
    epochs = range(1, len(curve.held_out) + 1)
    axes.plot(epochs, curve.train, ".-", color=TRAIN, label=f"training {curve.of}")
    label = f"held-out {curve.of}"
    axes.plot(epochs, curve.held_out, ".-", color=HELD_OUT, label=label, lw=2)
    if curve.reference is not None:
        value, name = curve.reference
        axes.axhline(value, color=REFERENCE, ls="--", label=f"{name}: {value:.2f}")
    axes.set(title=curve.title, xlabel="epoch", ylabel=curve.ylabel)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def draw_usage(axes: Any, counts: Sequence[int], perplexity: float) -> None:
    """Draw how often each code is used, the most frequent first.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    counts : Sequence[int]
        How often each code is used.
    perplexity : float
        exp of the entropy of code usage.
    """
    total = max(1, sum(counts))
    shares = sorted((100 * count / total for count in counts), reverse=True)
    used = sum(count > 0 for count in counts)
    ranks = range(1, len(shares) + 1)
    axes.fill_between(ranks, shares, step="mid", color=HELD_OUT, alpha=0.35, lw=0)
    axes.step(ranks, shares, where="mid", color=HELD_OUT, label="each code's share")
    axes.axhline(
        100 / len(shares),
        color=REFERENCE,
        ls="--",
        label=f"all {len(shares)} codes equally: {100 / len(shares):.2g} %",
    )
    axes.set(
        title=f"Code usage: {used} of {len(shares)} used, perplexity {perplexity:.0f}",
        xlabel="code, the commonest first",
        ylabel="share of frames (%)",
        xlim=(1, len(shares)),
        yscale="log",
    )
    lowest = min((share for share in shares if share > 0), default=1e-3)
    axes.set_ylim(bottom=min(lowest, 100 / len(shares)) / 2)
    axes.yaxis.set_major_formatter(_plain)
    bottom, top = axes.get_ylim()
    if top < 10 * bottom:
        # Labels between powers of ten, of which there may be none in this range.
        axes.yaxis.set_minor_formatter(_plain)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def _plain(value: float, _: int) -> str:
    return f"{value:g}"


def draw_bars(
    axes: Any,
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    ylabel: str,
    title: str,
) -> None:
    """Draw groups of bars: each bar is a mean, and dots are the averaged values.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    groups : Mapping[str, Mapping[str, Sequence[float]]]
        Values of each bar of each group; every group has the same bars.
    ylabel, title : str
        Labels of the panel.
    """
    names = list(next(iter(groups.values())))
    colours = [HELD_OUT, TRAIN, REFERENCE, "#999999"]
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        places = [place + (number + 0.5) * width - 0.4 for place in range(len(groups))]
        samples = [group[name] for group in groups.values()]
        means = [sum(values) / len(values) for values in samples]
        bars = axes.bar(
            places, means, width * 0.92, color=colours[number % 4], label=name
        )
        axes.bar_label(bars, fmt="%.2f", label_type="center", color="white")
        for place, values in zip(places, samples, strict=True):
            axes.plot([place] * len(values), values, "k.", ms=4, alpha=0.6)
    axes.set_xticks(range(len(groups)), list(groups))
    # Space above the bars for the legend.
    axes.set(ylabel=ylabel, title=title, ylim=(0, 1.18))
    axes.set_yticks([tenth / 5 for tenth in range(6)])
    axes.legend(frameon=False, loc="upper center", ncols=len(names), fontsize="small")
    axes.grid(alpha=0.3, axis="y")


def draw_rate_distortion(
    axes: Any,
    ylabel: str,
    bitrates: Sequence[float],
    trained: Sequence[float],
    untrained: Sequence[float],
    intervals: Sequence[Sequence[float]] | None = None,
) -> None:
    """Draw a metric of a codec against bitrate, trained and untrained.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    ylabel : str
        Name and unit of the metric, and whether higher or lower is better.
    bitrates : Sequence[float]
        Bitrates in kbit/s.
    trained, untrained : Sequence[float]
        One value per bitrate.
    intervals : Sequence[Sequence[float]], optional
        The confidence interval of each value of the trained codec.
    """
    if intervals is not None:
        low, high = zip(*intervals, strict=True)
        label = "95 % interval over utterances"
        axes.fill_between(
            bitrates, low, high, color=TRAIN, alpha=0.4, lw=0, label=label
        )
        axes.vlines(bitrates, low, high, color=HELD_OUT, lw=1)
    axes.plot(bitrates, trained, "o-", color=HELD_OUT, lw=2, label="trained")
    axes.plot(bitrates, untrained, "s--", color=REFERENCE, label="untrained")
    for rate, value in zip(bitrates, trained, strict=True):
        axes.annotate(f"{value:.3g}", (rate, value), (0, 7), textcoords="offset points")
    name = ylabel.partition(" (")[0].partition(",")[0]
    axes.set(
        title=f"{name} against bitrate, held-out speech",
        xlabel="bitrate (kbit/s)",
        ylabel=ylabel,
        xscale="log",
    )
    axes.set_xticks(bitrates, [f"{rate:.3g}" for rate in bitrates])
    axes.minorticks_off()
    axes.margins(0.12)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def draw_spectrogram(axes: Any, signal: Any, sample_rate: int, title: str) -> None:
    """Draw the spectrogram of audio.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    signal : numpy.ndarray
        (L,), in [-1, 1].
    sample_rate : int
        In Hz.
    title : str
        Title of the panel.
    """
    window = 1 << (sample_rate // 40).bit_length()
    *_, image = axes.specgram(
        signal,
        NFFT=window,
        Fs=sample_rate,
        noverlap=window * 3 // 4,
        scale="dB",
        mode="magnitude",
        vmin=-110,
        vmax=-30,
        cmap="magma",
    )
    axes.set(title=title, xlabel="time (s)", ylabel="frequency (Hz)")
    axes.figure.colorbar(image, ax=axes, label="magnitude (dB)")


def literal(text: str) -> str:
    """Escape `$`, which matplotlib would parse as math.

    Arguments
    ---------
    text : str
        For example the name of a file or class.

    Returns
    -------
    str

    Example
    -------
    >>> print(literal("$5 or $6"))
    \\$5 or \\$6
    """
    return text.replace("$", r"\$")


def new_figure(panels: int, title: str = "") -> tuple[Any, list[Any]]:
    """Return a figure with panels in two columns.

    Arguments
    ---------
    panels : int
        Number of panels.
    title : str
        Title of the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : list[matplotlib.axes.Axes]
        One per panel.
    """
    from matplotlib.figure import Figure

    rows = (panels + 1) // 2
    figure = Figure(figsize=(12, 4.2 * rows), layout="constrained")
    figure.suptitle(literal(title), fontweight="bold")
    axes = figure.subplots(rows, 2, squeeze=False).ravel().tolist()
    for spare in axes[panels:]:
        spare.axis("off")
    return figure, axes[:panels]


def save_figure(figure: Any, path: str | Path) -> None:
    """Save a figure atomically.

    Arguments
    ---------
    figure : matplotlib.figure.Figure
        From `new_figure`.
    path : str | Path
        Its suffix determines the format.
    """
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=130)
