"""Metrics of a codec on test speech at each bandwidth; table, plots and audio."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measure import Measures, Utterances, measure, of_recordings, test_signals, transmit
from torch import Tensor

from sb_espnet_vq.codec.model import Codec
from sb_espnet_vq.evaluation import plots, versa
from sb_espnet_vq.evaluation.metrics.audio import Audio
from sb_espnet_vq.evaluation.metrics.table import TITLES
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.training.results import (
    Results,
    count_parameters,
    draw_epochs,
    training_results,
    write_report,
)

# The metrics of each table.
GROUPS = (
    ("si_sdr", "mel_distance", "stft_distance"),
    ("stoi", "pesq", "dnsmos"),
    ("f0_error", "voicing_error", "speaker_similarity"),
    ("dwer",),
)


class Example(NamedTuple):
    """Concatenated utterances of test speech, original and decoded.

    signals : audio (L,) float32 by label, such as "original" or "3.2 kbit/s".
    """

    name: str
    signals: dict[str, Tensor]


# ---- metrics


@torch.no_grad()
def evaluate(
    brain: Any, datasets: dict[str, Any], untrained: Codec, measures: Measures
) -> tuple[Results, list[Example]]:
    """Return results and audio of a Brain with its best checkpoint loaded."""
    hparams = vars(brain.hparams)
    codec = hparams["codec"]
    untrained = untrained.to(brain.device)
    utterances = list(test_signals(datasets["test"], hparams))
    bandwidths = bandwidths_in_use(codec, hparams["bandwidths"])
    # Runs of earlier versions have no beam.
    beam = hparams.get("beam", 1)
    results = training_results(brain, datasets) | {
        "parameters": count_parameters([codec]),
        "quantizer": hparams["quantizer"],
        "codebook_size": codec.quantizer.codebook_size,
        "sample_rate": hparams["sample_rate"],
        "frame_rate": codec.frame_rate,
        "evaluated_utterances": len(utterances),
        "missing_metrics": measures.missing,
        "asr": hparams.get("asr"),
        "versa": bool(hparams.get("versa")),
        "speed": {"device": str(brain.device), "threads": torch.get_num_threads()},
        "recordings": of_recordings(utterances, measures.names),
        "bandwidths": [
            measured(codec, untrained, utterances, kbps, measures)
            for kbps in bandwidths
        ],
    }
    if beam > 1:
        results["beam"] = beam
        for row, kbps in zip(results["bandwidths"], bandwidths, strict=True):
            row["beam"] = measure(codec, utterances, kbps, measures, beam).means
    if results["versa"]:
        write_versa(codec, utterances, bandwidths, measures, hparams["output_folder"])
    some = utterances[: hparams["reconstructions"]]
    return results, [reconstruct(codec, *each, bandwidths) for each in some]


def measured(
    codec: Codec,
    untrained: Codec,
    utterances: Utterances,
    kbps: float,
    measures: Measures,
) -> dict[str, Any]:
    """Return the row of a bandwidth in results.json."""
    trained = measure(codec, utterances, kbps, measures)
    return {
        "trained": trained.means,
        "untrained": measure(untrained, utterances, kbps, measures).means,
        "intervals": trained.intervals,
        "utterances": trained.counts,
    }


def bandwidths_in_use(codec: Codec, bandwidths: list[float]) -> list[float]:
    """Return the actual bitrates (kbit/s, ascending) of all bandwidths."""
    used = {codec.codebooks_for(bandwidth) for bandwidth in bandwidths}
    return [codec.bitrate(n) for n in sorted(used)]


def reconstruct(
    codec: Codec, name: str, audio: Audio, bandwidths: list[float]
) -> Example:
    """Decode an example at each bandwidth with a codec in eval mode."""
    signals = {"original": audio.signal}
    for kbps in bandwidths:
        signals[f"{kbps:g} kbit/s"] = transmit(codec, audio.signal, kbps).signal
    return Example(name, signals)


def write_versa(
    codec: Codec,
    utterances: Utterances,
    bandwidths: list[float],
    measures: Measures,
    output_folder: str,
) -> None:
    """Write all test speech, original and at each bandwidth, for VERSA."""
    folder, rate = Path(output_folder, "versa"), codec.sample_rate
    names = versa.keys([name for name, _ in utterances])
    audio = dict(zip(names, [each.signal for _, each in utterances], strict=True))
    versa.write_list(folder / "original.scp", audio, rate)
    for kbps in bandwidths:
        decoded = {key: transmit(codec, x, kbps).signal for key, x in audio.items()}
        versa.write_list(folder / f"{kbps:g}kbps.scp", decoded, rate)
    versa.write_config(folder / "metrics.yaml", measures.names)


# ---- tables, panels and audio


def report(results: Results, examples: list[Example], folder: str) -> None:
    """Write results.json, plots and audio into the output folder, print the table."""
    for example in examples:
        write_audio(example, Path(folder, "reconstructions"), results["sample_rate"])
    files = {}
    if examples:
        draw_example(
            examples[0], results["sample_rate"], Path(folder, "reconstructions.png")
        )
        files = {"examples": "reconstructions.png", "audio": "reconstructions"}
    minutes = results["minutes"]
    title = (
        f"Codec with {results['quantizer']} on {minutes['train']:.0f} min of speech, "
        f"{results['steps']} steps; evaluated on {minutes['test']:.1f} min of test "
        "speech"
    )
    if results["versa"]:
        files["versa"] = "versa"
    names = [name for group in GROUPS for name in defined(results, group)]
    panels: list[Callable] = [partial(draw_metric, name) for name in names]
    tables = [metric_table(results, group) for group in GROUPS]
    tables = [*filter(None, tables), cost_table(results)]
    if "beam" in results:
        beams = [beam_table(results, group) for group in GROUPS]
        tables += filter(None, beams)
    write_report(results, folder, title, tables, [*panels, draw_loss], files)


def defined(results: Results, names: Sequence[str]) -> list[str]:
    """Return the metrics that have a value at every bandwidth."""
    rows = [row["trained"] for row in results["bandwidths"]]
    return [x for x in names if all(row.get(x) is not None for row in rows)]


def metric_table(results: Results, group: Sequence[str]) -> str:
    """Show some metrics at each bandwidth, with the untrained codec's; "" if none."""
    names = defined(results, group)
    if not names:
        return ""
    header = ["kbit/s"]
    for name in names:
        header += [TITLES[name].column, "95 % interval", "untrained"]
    rows = []
    for row in results["bandwidths"]:
        cells = [f"{row['trained']['bitrate']:.2f}"]
        for name in names:
            low, high = row["intervals"][name]
            cells += [as_text(row["trained"][name]), f"{low:.3f} to {high:.3f}"]
            cells.append(as_text(row["untrained"][name]))
        rows.append(cells)
    return "\n".join([text_table(rows, header), *metric_notes(results, names)])


def metric_notes(results: Results, names: Sequence[str]) -> list[str]:
    """Return the directions of some metrics, and what else to know of them."""
    notes = []
    better = {name: TITLES[name].higher_is_better for name in names}
    for direction, word in ((True, "higher"), (False, "lower")):
        short = [
            TITLES[name].column.partition(" (")[0]
            for name in names
            if better[name] is direction
        ]
        if short:
            notes.append(f"{', '.join(short)}: {word} is better.")
    total = results["evaluated_utterances"]
    for name in names:
        column = TITLES[name].column.partition(" (")[0]
        fewest = min(row["utterances"][name] for row in results["bandwidths"])
        if fewest < total:
            notes.append(f"{column} is defined for {fewest} of {total} utterances.")
        if results["recordings"].get(name) is not None:
            value = results["recordings"][name]
            notes.append(f"{column} of the recordings: {value:.3f}.")
    if "dwer" in names:
        notes.append(
            f"dWER: words that {results['asr']} recognizes in the reconstruction, "
            "against those in the recording."
        )
    return notes


def cost_table(results: Results) -> str:
    """Show code usage and speed at each bandwidth, and the metrics that are missing."""
    header = ["kbit/s", "codes used", "untrained", "perplexity", "entropy (kbit/s)"]
    header += ["encode (RTF)", "decode (RTF)"]
    rows = []
    for row in results["bandwidths"]:
        spent, other = row["trained"], row["untrained"]
        cells = [f"{spent['bitrate']:.2f}", f"{spent['used_codes']:.0f}"]
        cells += [f"{other['used_codes']:.0f}", f"{spent['perplexity']:.0f}"]
        cells.append(f"{spent['entropy_bitrate']:.2f}")
        cells += [f"{spent[f'{x}_real_time_factor']:.4f}" for x in ("encode", "decode")]
        rows.append(cells)
    speed = results["speed"]
    notes = [
        f"{results['quantizer']}, {results['codebook_size']} codes per codebook, "
        f"{results['frame_rate']:g} frames/s; {results['minutes']['test']:.1f} min of "
        "held-out speech.",
        "The bitrate counts whole frames; entropy is the bitrate after ideal entropy "
        "coding with the code frequencies.",
        "RTF: seconds of computing per second of audio, one utterance at a time, on "
        f"{speed['device']} with {speed['threads']} CPU threads.",
    ]
    notes += missing_notes(results["missing_metrics"])
    return "\n".join([text_table(rows, header), *notes])


def missing_notes(missing: dict[str, str]) -> list[str]:
    """Name the metrics that were not computed, and what installs their libraries."""
    return [
        f"Not computed, as a library is missing: {name} ({command})."
        for name, command in missing.items()
    ]


def beam_table(results: Results, group: Sequence[str]) -> str:
    """Compare the greedy search with that of a beam at each bandwidth; "" if none."""
    names = defined(results, group)
    if not names:
        return ""
    header = ["kbit/s"]
    for name in names:
        header += [TITLES[name].column, f"beam {results['beam']}"]
    rows = []
    for row in results["bandwidths"]:
        cells = [f"{row['trained']['bitrate']:.2f}"]
        for name in names:
            cells += [as_text(row[model][name]) for model in ("trained", "beam")]
        rows.append(cells)
    return text_table(rows, header)


def as_text(metric: float | None) -> str:
    """Format a metric; it is None if it is defined for no utterance."""
    return "-" if metric is None else f"{metric:.3f}"


def draw_metric(name: str, axes: Any, results: Results) -> None:
    """Draw a metric against the bitrate."""
    rows = results["bandwidths"]
    rates = [row["trained"]["bitrate"] for row in rows]
    trained = [row["trained"][name] for row in rows]
    untrained = [row["untrained"][name] for row in rows]
    known = [float("nan") if value is None else value for value in untrained]
    intervals = [row["intervals"][name] for row in rows]
    label = TITLES[name].axis()
    plots.draw_rate_distortion(axes, label, rates, trained, known, intervals)


def draw_loss(axes: Any, results: Results) -> None:
    """Draw the mel loss of each epoch."""
    title = "Mel loss: train at random bandwidths, held-out at the highest"
    draw_epochs(axes, results, "mel", title, "mel loss (nat)")


def draw_example(example: Example, sample_rate: int, path: Path) -> None:
    """Draw the spectrograms of an example."""
    title = f"{example.name}, test speech"
    figure, axes = plots.new_figure(len(example.signals), title)
    for panel, (name, signal) in zip(axes, example.signals.items(), strict=True):
        plots.draw_spectrogram(panel, signal.numpy(), sample_rate, name)
    plots.save_figure(figure, path)


def write_audio(example: Example, folder: Path, sample_rate: int) -> None:
    """Write the signals of an example as WAV files, into a folder of its name."""
    for name, signal in example.signals.items():
        file = f"{name.replace(' kbit/s', 'kbps')}.wav"
        place = folder / example.name.replace("/", "_") / file
        versa.write_wav(place, signal, sample_rate)
