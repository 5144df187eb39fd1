"""Results of several seeds as a table, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from sb_espnet_vq.bench.distortion.data import FRAME_RATE
from sb_espnet_vq.bench.distortion.measure import Measured
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.utils.files import write_text

_HEADER = (
    "quantizer",
    "beam",
    "bits/frame",
    "kbit/s",
    "SNR (dB)",
    "codes used (%)",
    "in training (%)",
    "us/frame",
    "training (s)",
)


def distortion_table(results: Sequence[Measured]) -> str:
    """Return a table with a row for each quantizer and beam, means over seeds.

    Arguments
    ---------
    results : sequence of Measured
        In the order of the rows.

    Returns
    -------
    str
        With several seeds the SNR has its standard deviation.
    """
    groups: dict[tuple[str, int], list[Measured]] = {}
    for each in results:
        groups.setdefault((each.name, each.beam), []).append(each)
    return text_table([_row(group) for group in groups.values()], _HEADER)


def _row(group: Sequence[Measured]) -> list[str]:
    first, snr = group[0], [each.snr for each in group]
    spread = f" ± {stdev(snr):.2f}" if len(snr) > 1 else ""
    return [
        first.name,
        str(first.beam),
        f"{first.bits:.1f}",
        f"{first.bits * FRAME_RATE / 1000:.2f}",
        f"{mean(snr):.2f}{spread}",
        f"{100 * mean(each.used for each in group):.1f}",
        f"{100 * mean(each.used_in_training for each in group):.1f}",
        f"{mean(each.microseconds for each in group):.1f}",
        f"{mean(each.training_seconds for each in group):.0f}",
    ]


def write_csv(path: Path, results: Sequence[Measured]) -> None:
    """Write a row for each seed, quantizer and beam."""
    text = io.StringIO()
    names = [field.name for field in fields(Measured)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(each) for each in results)
    write_text(path, text.getvalue())


def write_json(path: Path, about: dict[str, Any], results: Sequence[Measured]) -> None:
    """Write what was measured and the same rows."""
    rows = [asdict(each) for each in results]
    write_text(path, json.dumps({**about, "results": rows}, indent=1) + "\n")
