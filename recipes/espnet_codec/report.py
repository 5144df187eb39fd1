#!/usr/bin/env python3
"""Prints what the scores say, writes results.json and results.png; the last stage."""

import argparse
import json
import sys
from pathlib import Path
from statistics import mean

import yaml
from list_pairs import STATES
from write_shapes import read_samples

from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.utils.files import write_text

# Files of ESPnet's scoring, and how they are shown.
MEASURES = {
    "STOI": ("STOI_spk1", "STOI (%)"),
    "SI_SNR": ("SI_SNR_spk1", "SI-SNR (dB)"),
    "SDR": ("SDR_spk1", "SDR (dB)"),
}


def main(arguments):
    """Gather, write, print.

    Arguments
    ---------
    arguments : list[str]
        Those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("expdir", type=Path, help="has train.yaml and score/")
    parser.add_argument("recorded", type=Path, help="the test part")
    args = parser.parse_args(arguments)
    results = gather(args.expdir, args.recorded)
    json_file, png_file = args.expdir / "results.json", args.expdir / "results.png"
    write_text(json_file, json.dumps(results, indent=1) + "\n")
    draw(results, png_file)
    print(table(results))
    print(f"\nfigures: {json_file}\nplot:    {png_file}")


def gather(expdir, recorded):
    """Read all scores.

    Arguments
    ---------
    expdir : Path
        The run's folder.
    recorded : Path
        The test part.

    Returns
    -------
    dict
        What was measured, and `bandwidths`: for each one asked for, the rate that
        its codes had and the means over the test part, trained and untrained.
    """
    config = yaml.safe_load((expdir / "train.yaml").read_text(encoding="utf-8"))
    rates = json.loads((expdir / "score" / "rates.json").read_text(encoding="utf-8"))
    scores = read_scores(expdir / "score")
    samples = read_samples(recorded / "utt2num_samples")
    rate = config["codec_conf"]["sampling_rate"]
    asked = [key.partition("/")[2] for key in rates if key.startswith("trained/")]
    rows = []
    for bandwidth in asked:
        row = {"asked_kbit_per_s": float(bandwidth)}
        for state in STATES:
            key = f"{state}/{bandwidth}"
            found = {
                name: mean(scores[name][key]) if scores[name].get(key) else None
                for name in MEASURES
            }
            row[state] = rates[key] | found
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


def read_scores(folder):
    """Read what the scoring jobs wrote.

    Arguments
    ---------
    folder : Path
        Has a subfolder for each job.

    Returns
    -------
    dict[str, dict[str, list[float]]]
        For each measure, state and bandwidth the figures of all recordings.

    Raises
    ------
    CorpusError
        If there are none.
    """
    scores = {name: {} for name in MEASURES}
    for measure, (file, _) in MEASURES.items():
        paths = sorted(folder.glob(f"*/{file}"))
        if not paths:
            raise CorpusError(f"{folder}: no {file}; run stage 5 again")
        for path in paths:
            for line in path.read_text(encoding="utf-8").splitlines():
                key, value = line.split()
                condition = "/".join(key.split("/")[:2])
                scores[measure].setdefault(condition, []).append(float(value))
    return scores


def table(results):
    """Lay out the figures, the trained model's beside those of the untrained.

    Arguments
    ---------
    results : dict
        From `gather`.

    Returns
    -------
    str
    """
    header = ["kbit/s asked", "used"]
    header += [
        f"{shown}{', untrained' * n}" for _, shown in MEASURES.values() for n in (0, 1)
    ]
    header += ["codes used"]
    rows = []
    for row in results["bandwidths"]:
        cells = [f"{row['asked_kbit_per_s']:g}", f"{row['trained']['kbit_per_s']:.2f}"]
        for name in MEASURES:
            cells += [figure(row[state][name]) for state in STATES]
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


def draw(results, path):
    """Plot STOI and SI-SNR against the bitrate.

    Arguments
    ---------
    results : dict
        From `gather`.
    path : Path
        The PNG file.
    """
    title = f"{results['codec']}, {results['test_minutes']:.1f} min of test speech"
    figure, axes = plots.new_figure(2, title)
    for panel, name in zip(axes, ("STOI", "SI_SNR"), strict=True):
        rows = [
            row
            for row in results["bandwidths"]
            if None not in (row["trained"][name], row["untrained"][name])
        ]
        if rows:
            plots.draw_rate_distortion(
                panel,
                MEASURES[name][1],
                [row["trained"]["kbit_per_s"] for row in rows],
                [row["trained"][name] for row in rows],
                [row["untrained"][name] for row in rows],
            )
    plots.save_figure(figure, path)


def figure(value):
    """Show a figure, or that there is none.

    Arguments
    ---------
    value : float or None

    Returns
    -------
    str
    """
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except CorpusError as error:
        sys.exit(f"error: {error}")
