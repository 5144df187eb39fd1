"""Results of all cells: one row a cell, and means over the seeds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from sb_espnet_vq.compare.cells import Setting, is_finished, read_cost
from sb_espnet_vq.compare.grid import Cell, Grid
from sb_espnet_vq.utils.files import write_text

# What of a codec's results depends on the machine.
_SPEEDS = ("encode_real_time_factor", "decode_real_time_factor", "real_time_factor")
TOKEN_ERROR = "token_word_error"


class Row(NamedTuple):
    """Results of a cell.

    status : finished, or unfinished; metrics : None where a metric is missing;
    intervals : lower and upper end for some metrics; cost : of the machine; missing :
    why a metric is missing, if the run says so.
    """

    cell: Cell
    status: str
    metrics: dict[str, float | None]
    intervals: dict[str, list[float]]
    cost: dict[str, float | None]
    missing: dict[str, str]


class Mean(NamedTuple):
    """A value over seeds: mean, and lower and upper end of an interval if known."""

    value: float
    low: float | None
    high: float | None


def read_rows(grid: Grid, setting: Setting) -> list[Row]:
    """Read the results of all cells, in the order of the grid."""
    return [_read_row(cell, grid, setting) for cell in grid.cells]


def _read_row(cell: Cell, grid: Grid, setting: Setting) -> Row:
    if not is_finished(cell, grid, setting):
        return Row(cell, "unfinished", {}, {}, {}, {})
    home = setting.folder / cell.id
    spent = read_cost(home)
    ctc = _results(home / "ctc")
    metrics: dict[str, float | None] = {TOKEN_ERROR: ctc["test"]["word_error"]}
    intervals: dict[str, list[float]] = {}
    cost: dict[str, float | None] = {
        "ctc_seconds": ctc["seconds"]["wall"],
        "ctc_peak_mib": spent["ctc"]["peak_bytes"] / 2**20,
    }
    missing: dict[str, str] = {}
    if cell.name is not None:
        codec = _results(home / "codec")
        # One bandwidth is trained.
        found = codec["bandwidths"][0]
        measured = dict(found["trained"])
        speeds = {name: measured.pop(name, None) for name in _SPEEDS}
        share = measured["used_codes"] / codec["codebook_size"]
        metrics = measured | {"used_share": share} | metrics
        intervals = found.get("intervals", {})
        missing = _reasons(codec.get("missing_metrics") or {})
        cost = {
            "codec_seconds": codec["seconds"]["wall"],
            "codec_cpu_seconds": codec["seconds"]["cpu"],
            "codec_peak_mib": spent["codec"]["peak_bytes"] / 2**20,
            "parameters": codec["parameters"],
            **speeds,
            **cost,
        }
    return Row(cell, "finished", metrics, intervals, cost, missing)


def _reasons(missing: Any) -> dict[str, str]:
    """Return why metrics are missing, by name."""
    if isinstance(missing, dict):
        return {name: str(reason) for name, reason in missing.items()}
    return dict.fromkeys(missing, "")


def _results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def columns(rows: Sequence[Row], part: str) -> list[str]:
    """Return the names of all metrics or costs of any row, in their first order."""
    names = (name for row in rows for name in getattr(row, part))
    return list(dict.fromkeys(names))


def average(rows: Sequence[Row], name: str, part: str = "metrics") -> Mean | None:
    """Return a metric over the seeds of a quantizer at a bitrate; None if missing.

    The interval of several seeds is mean ± standard deviation; that of one seed is the
    interval over test utterances, if the run has one.
    """
    found = [(row, getattr(row, part).get(name)) for row in rows]
    known = [(row, float(value)) for row, value in found if value is not None]
    if not known:
        return None
    values = [value for _, value in known]
    centre = mean(values)
    if len(values) > 1:
        spread = stdev(values)
        return Mean(centre, centre - spread, centre + spread)
    low, high = known[0][0].intervals.get(name) or (None, None)
    return Mean(centre, low, high)


def groups(rows: Sequence[Row]) -> dict[tuple[str, float], list[Row]]:
    """Group the rows of codecs by quantizer and requested bitrate."""
    grouped: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        if row.cell.name is not None and row.cell.bitrate is not None:
            grouped.setdefault((row.cell.name, row.cell.bitrate), []).append(row)
    return grouped


def write_csv(path: Path, rows: Sequence[Row], part: str) -> None:
    """Write a row a cell, with all metrics or all costs."""
    names = columns(rows, part)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = [f"{name}_{end}" for name in names for end in ("low", "high")]
    known = {n for row in rows for n in row.intervals} if part == "metrics" else set()
    ends = [end for end in ends if end.rpartition("_")[0] in known]
    head = ["quantizer", "requested_kbps", "seed", "status"]
    writer.writerow([*head, *names, *ends])
    for row in rows:
        values = getattr(row, part)
        cells = [row.cell.name or "recognizer", row.cell.bitrate, row.cell.seed]
        bounds = [_end(row, name) for name in ends]
        writer.writerow(
            [*cells, row.status, *(values.get(name) for name in names), *bounds]
        )
    write_text(path, text.getvalue())


def _end(row: Row, column: str) -> float | None:
    name, _, end = column.rpartition("_")
    pair = row.intervals.get(name)
    return None if pair is None else pair[end == "high"]


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as JSON-serializable values."""
    return [
        {
            "quantizer": row.cell.name,
            "requested_kbps": row.cell.bitrate,
            "seed": row.cell.seed,
            "options": row.cell.codec,
            **{key: value for key, value in row._asdict().items() if key != "cell"},
        }
        for row in rows
    ]
