"""Metrics of a codec on test speech at each bandwidth; table, plots and audio."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
import torch
from torch import Tensor

from sb_espnet_vq.codec.model import Codec
from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.codecs import cost, mean_metrics, quality
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.training.data import make_loader
from sb_espnet_vq.training.results import (
    Results,
    count_parameters,
    draw_epochs,
    training_results,
    write_report,
)
from sb_espnet_vq.utils.files import atomic_file

# Key of each metric in `quality`, its column in the table and its axis label.
METRICS = {
    "si_sdr": ("SI-SDR (dB)", "SI-SDR (dB), higher is better"),
    "mel_distance": ("mel distance (dB)", "mel distance (dB), lower is better"),
    "stoi": ("STOI", "STOI, higher is better"),
}


class Example(NamedTuple):
    """Concatenated utterances of test speech, original and decoded.

    signals : audio (L,) float32 by label, such as "original" or "3.2 kbit/s".
    """

    name: str
    signals: dict[str, Tensor]


# ---- metrics


@torch.no_grad()
def evaluate(
    brain: Any, datasets: dict[str, Any], untrained: Codec
) -> tuple[Results, list[Example]]:
    """Return results and audio of a Brain with its best checkpoint loaded."""
    hparams = vars(brain.hparams)
    codec = hparams["codec"]
    models = {"trained": codec, "untrained": untrained.to(brain.device)}
    signals = list(test_signals(datasets["test"], hparams))
    bandwidths = bandwidths_in_use(codec, hparams["bandwidths"])
    # Runs of earlier versions have no beam.
    beam = hparams.get("beam", 1)
    results = training_results(brain, datasets) | {
        "parameters": count_parameters([codec]),
        "quantizer": hparams["quantizer"],
        "codebook_size": codec.quantizer.codebook_size,
        "sample_rate": hparams["sample_rate"],
        "frame_rate": codec.frame_rate,
        "bandwidths": [
            {name: measure(model, signals, kbps) for name, model in models.items()}
            for kbps in bandwidths
        ],
    }
    if beam > 1:
        results["beam"] = beam
        for row, kbps in zip(results["bandwidths"], bandwidths, strict=True):
            row["beam"] = measure(codec, signals, kbps, beam)
    some = signals[: hparams["reconstructions"]]
    return results, [reconstruct(codec, *each, bandwidths) for each in some]


def bandwidths_in_use(codec: Codec, bandwidths: list[float]) -> list[float]:
    """Return the actual bitrates (kbit/s, ascending) of all bandwidths."""
    used = {codec.codebooks_for(bandwidth) for bandwidth in bandwidths}
    return [codec.bitrate(n) for n in sorted(used)]


def test_signals(dataset: Any, hparams: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield name and audio (L,) of test speech, concatenated as in training."""
    for batch in make_loader(dataset, hparams):
        rows = zip(batch.ids, batch.signals, batch.samples, strict=True)
        yield from ((name, signal[:count]) for name, signal, count in rows)


def measure(
    codec: Codec, signals: list[tuple[str, Tensor]], bandwidth: float, beam: int = 1
) -> dict[str, float | None]:
    """Return mean metrics at a bandwidth (kbit/s), and the cost of the codes."""
    codec.eval()
    metrics, all_codes, samples = [], [], 0
    for _, signal in signals:
        codes, estimate = transmit(codec, signal, bandwidth, beam)
        metrics.append(compare(estimate, signal, codec.sample_rate))
        all_codes.append(codes)
        samples += len(signal)
    seconds = samples / codec.sample_rate
    spent = cost(torch.cat(all_codes), codec.quantizer.codebook_sizes, seconds)
    return mean_metrics(metrics) | spent._asdict()


def compare(
    estimate: Tensor, target: Tensor, sample_rate: int
) -> dict[str, float | None]:
    """Return the metrics of one signal (L,)."""
    return quality(estimate, target, sample_rate)._asdict()


def transmit(
    codec: Codec, signal: Tensor, bandwidth: float, beam: int = 1
) -> tuple[Tensor, Tensor]:
    """Encode and decode a signal (L,): codes (T, K) and audio (L,), on the CPU."""
    device = next(codec.parameters()).device
    codes = codec.encode(signal[None].to(device), bandwidth=bandwidth, beam=beam)
    audio = codec.decode(codes)[0, : len(signal)]
    return codes[0].cpu(), audio.cpu()


def reconstruct(
    codec: Codec, name: str, signal: Tensor, bandwidths: list[float]
) -> Example:
    """Decode an example at each bandwidth with a codec in eval mode."""
    signals = {"original": signal}
    for kbps in bandwidths:
        signals[f"{kbps:g} kbit/s"] = transmit(codec, signal, kbps)[1]
    return Example(name, signals)


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
    panels: list[Callable] = [partial(draw_metric, name) for name in METRICS]
    tables = [bandwidth_table(results)]
    if "beam" in results:
        tables.append(beam_table(results))
    write_report(results, folder, title, tables, [*panels, draw_loss], files)


def bandwidth_table(results: Results) -> str:
    """Show quality and cost at each bandwidth."""
    header = ["bitrate (kbit/s)"]
    for column, _ in METRICS.values():
        header += [column, "untrained"]
    header += ["codes used", "perplexity", "entropy (kbit/s)"]
    rows = []
    for row in results["bandwidths"]:
        trained, untrained = row["trained"], row["untrained"]
        cells = [f"{trained['bitrate']:.2f}"]
        for name in METRICS:
            cells += [as_text(trained[name]), as_text(untrained[name])]
        cells += [f"{trained['used_codes']:.0f}", f"{trained['perplexity']:.0f}"]
        rows.append([*cells, f"{trained['entropy_bitrate']:.2f}"])
    note = (
        f"{results['quantizer']}, {results['codebook_size']} codes per codebook, "
        f"{results['frame_rate']:g} frames/s; {results['minutes']['test']:.1f} min of "
        "held-out speech.\nThe bitrate counts whole frames; entropy is the bitrate "
        "after ideal entropy coding with the code frequencies."
    )
    return f"{text_table(rows, header)}\n{note}"


def beam_table(results: Results) -> str:
    """Compare the greedy search with that of a beam at each bandwidth."""
    header = ["bitrate (kbit/s)"]
    for column, _ in METRICS.values():
        header += [column, f"beam {results['beam']}"]
    rows = []
    for row in results["bandwidths"]:
        cells = [f"{row['trained']['bitrate']:.2f}"]
        for name in METRICS:
            cells += [as_text(row[model][name]) for model in ("trained", "beam")]
        rows.append(cells)
    return text_table(rows, header)


def as_text(metric: float | None) -> str:
    """Format a metric; STOI is missing if all utterances are too short for it."""
    return "-" if metric is None else f"{metric:.3f}"


def draw_metric(name: str, axes: Any, results: Results) -> None:
    """Draw a metric against the bitrate."""
    rows = results["bandwidths"]
    rates = [row["trained"]["bitrate"] for row in rows]
    trained, untrained = (
        [row[model][name] for row in rows] for model in ("trained", "untrained")
    )
    if None not in trained:
        plots.draw_rate_distortion(axes, METRICS[name][1], rates, trained, untrained)


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
        with atomic_file(folder / example.name.replace("/", "_") / file) as partial:
            peak = max(1.0, float(signal.abs().max()))
            soundfile.write(partial, (signal / peak).numpy(), sample_rate)
