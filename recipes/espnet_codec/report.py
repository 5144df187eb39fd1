#!/usr/bin/env python3
"""Print a table of the scores, write results.json and plots; stage 6 of run.sh."""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from config import load
from list_pairs import STATES
from write_shapes import read_samples

from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.training.results import Results, write_report

# Files of ESPnet's scoring, and their columns in the table.
METRICS = {
    "STOI": ("STOI_spk1", "STOI (%)"),
    "SI_SNR": ("SI_SNR_spk1", "SI-SNR (dB)"),
    "SDR": ("SDR_spk1", "SDR (dB)"),
}
PLOTTED = ("STOI", "SI_SNR")


def main(arguments: list[str]) -> None:
    """Collect the scores, write the report and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("expdir", type=Path, help="has train.yaml and score/")
    parser.add_argument("recorded", type=Path, help="the test part")
    args = parser.parse_args(arguments)
    results = gather(args.expdir, args.recorded)
    title = f"{results['codec']}, {results['test_minutes']:.1f} min of test speech"
    panels = [partial(draw_metric, name) for name in PLOTTED]
    write_report(results, args.expdir, title, [score_table(results)], panels)


def gather(expdir: Path, recorded: Path) -> Results:
    """Read all scores of a run.

    For each requested bandwidth, `bandwidths` has the actual rate of the codes and the
    means over the test part, trained and untrained.
    """
    config = load(expdir / "train.yaml")
    rates = json.loads((expdir / "score" / "rates.json").read_text(encoding="utf-8"))
    scores = read_scores(expdir / "score")
    samples = read_samples(recorded / "utt2num_samples")
    rate = config["codec_conf"]["sampling_rate"]
    asked = [key.partition("/")[2] for key in rates if key.startswith("trained/")]
    rows = []
    for bandwidth in asked:
        row: dict[str, Any] = {"asked_kbit_per_s": float(bandwidth)}
        for state in STATES:
            key = f"{state}/{bandwidth}"
            scored = {
                name: mean(scores[name][key]) if scores[name].get(key) else None
                for name in METRICS
            }
            row[state] = rates[key] | scored
        rows.append(row)
    ours = config["codec"].startswith("vq_")
    return {
        "codec": config["codec"],
        "quantizer": config["codec_conf"].get("quantizer", "rvq") if ours else None,
        "sampling_rate": rate,
        "test_recordings": len(samples),
        "test_minutes": sum(samples.values()) / rate / 60,
        "bandwidths": rows,
    }


def read_scores(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Read the scores of all recordings, by metric and by state and bandwidth."""
    scores: dict[str, dict[str, list[float]]] = {name: {} for name in METRICS}
    for metric, (file, _) in METRICS.items():
        paths = sorted(folder.glob(f"*/{file}"))
        if not paths:
            raise CorpusError(f"{folder}: no {file}; run stage 5 again")
        for path in paths:
            for line in path.read_text(encoding="utf-8").splitlines():
                key, value = line.split()
                condition = "/".join(key.split("/")[:2])
                scores[metric].setdefault(condition, []).append(float(value))
    return scores


def score_table(results: Results) -> str:
    """Return a table of the metrics of the trained and the untrained model."""
    header = ["kbit/s requested", "actual"]
    header += [
        f"{column}{', untrained' * n}" for _, column in METRICS.values() for n in (0, 1)
    ]
    header += ["codes used"]
    rows = []
    for row in results["bandwidths"]:
        cells = [f"{row['asked_kbit_per_s']:g}", f"{row['trained']['kbit_per_s']:.2f}"]
        for name in METRICS:
            cells += [as_text(row[state][name]) for state in STATES]
        rows.append([*cells, f"{row['trained']['used_codes']:.0f}"])
    silent = sum(
        row[state]["silent"] for row in results["bandwidths"] for state in STATES
    )
    name = results["quantizer"] or "ESPnet's own quantizer"
    lines = [
        f"{results['codec']} with {name} at {results['sampling_rate']} Hz: means over "
        f"{results['test_recordings']} recordings of test speech "
        f"({results['test_minutes']:.1f} min)",
        text_table(rows, header),
    ]
    if silent:
        lines.append(f"{silent} decoded recordings were silent and have no scores.")
    return "\n".join(lines)


def as_text(metric: float | None) -> str:
    """Format a metric; it is missing if all recordings were silent."""
    return "-" if metric is None else f"{metric:.1f}"


def draw_metric(name: str, axes: Any, results: Results) -> None:
    """Draw a metric against the bitrate."""
    rows = [
        row
        for row in results["bandwidths"]
        if None not in (row["trained"][name], row["untrained"][name])
    ]
    if rows:
        plots.draw_rate_distortion(
            axes,
            METRICS[name][1],
            [row["trained"]["kbit_per_s"] for row in rows],
            [row["trained"][name] for row in rows],
            [row["untrained"][name] for row in rows],
        )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except CorpusError as error:
        sys.exit(f"error: {error}")
