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
from sb_espnet_vq.compare.words import COSTS, METRICS, SPEEDS, TOKEN_ERROR
from sb_espnet_vq.utils.files import write_text


class Row(NamedTuple):
    """Results of a cell.

    status : finished, or unfinished; metrics : None where a metric is missing;
    intervals : lower and upper end for some metrics; cost : of the machine; missing :
    why a metric is missing; recordings : metrics of the recordings themselves.
    """

    cell: Cell
    status: str
    metrics: dict[str, float | None]
    intervals: dict[str, list[float] | None]
    cost: dict[str, float | None]
    missing: dict[str, str]
    recordings: dict[str, float | None]


class Mean(NamedTuple):
    """A metric over the seeds for which it is known.

    value : mean; low, high : ends of an interval, if known; seeds : their number.
    """

    value: float
    low: float | None
    high: float | None
    seeds: int


def read_rows(grid: Grid, setting: Setting) -> list[Row]:
    """Read the results of all cells, in the order of the grid."""
    return [_read_row(cell, grid, setting) for cell in grid.cells]


def _read_row(cell: Cell, grid: Grid, setting: Setting) -> Row:
    """Read what there is: an unfinished cell may have a finished codec."""
    status = "finished" if is_finished(cell, grid, setting) else "unfinished"
    row = Row(cell, status, {}, {}, {}, {}, {})
    home = setting.folder / cell.id
    for recipe, spent in read_cost(home).items():
        file = home / recipe / "results.json"
        results = json.loads(file.read_text(encoding="utf-8"))
        row.cost[f"{recipe}_seconds"] = results["seconds"]["wall"]
        row.cost[f"{recipe}_cpu_seconds"] = results["seconds"]["cpu"]
        row.cost[f"{recipe}_peak_mib"] = spent["peak_bytes"] / 2**20
        (_read_codec if recipe == "codec" else _read_recognizer)(row, results)
    return row


def _read_codec(row: Row, results: dict[str, Any]) -> None:
    # Of the one bandwidth of the cell.
    found = results["bandwidths"][0]
    for name, value in found["trained"].items():
        (row.cost if name in SPEEDS else row.metrics)[name] = value
    share = found["trained"]["used_codes"] / results["codebook_size"]
    row.metrics["used_share"] = share
    row.intervals.update(found.get("intervals", {}))
    row.cost["parameters"] = results["parameters"]
    row.missing.update(results.get("missing_metrics", {}))
    row.metrics.update(dict.fromkeys(row.missing))
    row.recordings.update(results.get("recordings", {}))


def _read_recognizer(row: Row, results: dict[str, Any]) -> None:
    row.metrics[TOKEN_ERROR] = results["test"]["word_error"]
    row.intervals[TOKEN_ERROR] = results["test"].get("word_error_interval")


def columns(rows: Sequence[Row], part: str) -> list[str]:
    """Return the names of all metrics or costs of any row, known ones first."""
    names = dict.fromkeys(name for row in rows for name in getattr(row, part))
    known = METRICS if part == "metrics" else COSTS
    return [n for n in known if n in names] + [n for n in names if n not in known]


def part_of(name: str) -> str:
    """Return the part of a row that has a name: cost or metrics."""
    return "cost" if name in COSTS else "metrics"


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
        return Mean(centre, centre - spread, centre + spread, len(values))
    intervals = known[0][0].intervals if part == "metrics" else {}
    low, high = intervals.get(name) or (None, None)
    return Mean(centre, low, high, 1)


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
