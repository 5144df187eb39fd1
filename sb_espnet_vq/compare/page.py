"""The report of a comparison: tables, plots, and a page that shows them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb_espnet_vq.compare.cells import Setting
from sb_espnet_vq.compare.draw import (
    ALL,
    COST,
    QUALITY,
    draw_cost,
    draw_metrics,
    draw_quality,
)
from sb_espnet_vq.compare.grid import Grid
from sb_espnet_vq.compare.table import (
    Row,
    as_json,
    average,
    columns,
    groups,
    part_of,
    read_rows,
    write_csv,
)
from sb_espnet_vq.compare.words import TOKEN_ERROR, word
from sb_espnet_vq.utils.files import write_text

_PAGE, _JSON = "README.md", "compare.json"
# The columns of the first table.
_GLANCE = (
    "si_sdr",
    "mel_distance",
    "stoi",
    "pesq",
    "dwer",
    TOKEN_ERROR,
    "used_share",
    "real_time_factor",
    "codec_seconds",
    "codec_peak_mib",
)
_COLUMNS = 6


def write_page(
    grid: Grid, setting: Setting, about: dict[str, Any], failures: dict[str, str]
) -> list[Row]:
    """Write all tables, plots and the page into the folder of a comparison.

    Arguments
    ---------
    grid, setting
        What was run, and where.
    about : dict
        machine, versions, command, jobs.
    failures : dict[str, str]
        Why cells failed, by their id.

    Returns
    -------
    list[Row]
    """
    folder = setting.folder
    rows = read_rows(grid, setting)
    write_csv(folder / "table.csv", rows, "metrics")
    write_csv(folder / "cost.csv", rows, "cost")
    about = {**about, "calls": _calls(folder, about["call"])}
    everything = {**about, "seeds": grid.seeds, "cells": as_json(rows)}
    write_text(folder / _JSON, json.dumps(everything, indent=1) + "\n")
    counts = f"{len(grid.seeds)} seed{'s' if len(grid.seeds) > 1 else ''}"
    place = about["machine"]["gpu"] or about["machine"]["processor"]
    draw_quality(folder / QUALITY, rows, f"Quantizers, {counts}", _spread(grid))
    draw_metrics(folder / ALL, rows, f"All metrics, {counts}", _spread(grid))
    draw_cost(folder / COST, rows, f"Errors and cost, {counts}, {place}", _spread(grid))
    write_text(folder / _PAGE, _page(grid, rows, about, failures, folder))
    return rows


def _calls(folder: Path, call: dict[str, float]) -> list[dict[str, float]]:
    """Return cells and seconds of all calls that finished a cell, this one included."""
    file = folder / _JSON
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return before.get("calls", []) + ([call] if call["cells"] else [])


def _spread(grid: Grid) -> str:
    if len(grid.seeds) > 1:
        return f"intervals: mean ± standard deviation of {len(grid.seeds)} seeds"
    return "intervals: 95 % by bootstrap over test utterances, where there are any"


def _page(
    grid: Grid,
    rows: Sequence[Row],
    about: dict[str, Any],
    failures: dict[str, str],
    folder: Path,
) -> str:
    measured = columns([row for row in rows if row.cell.name], "metrics")
    costs = columns([row for row in rows if row.cell.name], "cost")
    parts = [
        "# Quantizers compared",
        _summary(grid, rows, about),
        *_troubles(rows, failures),
        "## At a glance",
        _explain(),
        result_table(rows, [n for n in _GLANCE if n in {*measured, *costs}], False),
        *_reference_line(rows),
        *_missing(rows),
        *_picture(folder, QUALITY, "Metrics against bitrate"),
        "## All metrics",
        f"On test speech; {_spread(grid)}.",
        *(result_table(rows, names) for names in _in_parts(measured)),
        *_picture(folder, ALL, "All metrics of each quantizer"),
        "## Cost",
        "Means over the seeds. Time and memory are those of this machine, with "
        f"{about['jobs']} cells at a time, each with {about['threads']} CPU "
        "thread(s). Memory is the peak of the process, without that of a GPU.",
        *(result_table(rows, names) for names in _in_parts(costs)),
        *_picture(folder, COST, "Errors against cost"),
        "## Quantizers and options",
        option_table(grid),
        "## Machine and versions",
        _machine(about),
        "## Repeat it",
        f"```sh\n{about['command']}\n```",
        "`table.csv` and `cost.csv` have a row for each cell, `compare.json` "
        "everything.",
    ]
    return "\n\n".join(parts) + "\n"


def _in_parts(names: Sequence[str]) -> list[Sequence[str]]:
    """Split the columns of a table that would be too wide for a page."""
    starts = range(0, len(names), _COLUMNS)
    return [names[start : start + _COLUMNS] for start in starts]


def _summary(grid: Grid, rows: Sequence[Row], about: dict[str, Any]) -> str:
    cells = groups(rows)
    quantizers = {name for name, _ in cells}
    bitrates = sorted({bitrate for _, bitrate in cells})
    done = sum(row.status == "finished" for row in rows)
    times = [
        f"{call['cells']} cells in {call['seconds'] / 60:.1f} minutes"
        for call in about["calls"]
    ]
    return (
        f"{len(quantizers)} quantizers at {_and(f'{b:g}' for b in bitrates)} kbit/s "
        f"with seed{'s' if len(grid.seeds) > 1 else ''} {_and(map(str, grid.seeds))}: "
        f"{done} of {len(rows)} cells finished. Wall time: {_and(times or ['none'])}, "
        f"{about['jobs']} at a time. Written on {datetime.date.today()} by "
        f"sb_espnet_vq {about['versions']['sb_espnet_vq']}."
    )


def _and(words: Any) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _troubles(rows: Sequence[Row], failures: dict[str, str]) -> list[str]:
    left = [row.cell for row in rows if row.status != "finished"]
    if not left:
        return []
    lines = [f"- {cell.title}: {failures.get(cell.id, 'not run yet')}" for cell in left]
    return ["**Unfinished cells**", "\n".join(lines)]


def _explain() -> str:
    return (
        "Means on test speech; the intervals are below. A codec is trained for each "
        "quantizer, bitrate and seed, everything else is the same. dWER is the word "
        "error between the transcripts of decoded and original speech, by a recognizer "
        "of log-mel features; token WER the word error of a recognizer that is trained "
        "on the tokens. The best mean at each bitrate is bold; a dash is a missing "
        "metric."
    )


def result_table(
    rows: Sequence[Row], names: Sequence[str], intervals: bool = True
) -> str:
    """Return a Markdown table of means, a row for each bitrate and quantizer.

    The best mean at each bitrate is bold. Without intervals, more columns fit.
    """
    header = ["kbit/s", "quantizer", *(word(name).short for name in names)]
    grouped = sorted(groups(rows).items(), key=lambda item: item[0][1])
    body = []
    for (name, bitrate), group in grouped:
        others = [each for (_, at), each in grouped if at == bitrate]
        cells = [_cell(group, metric, others, intervals) for metric in names]
        body.append([f"{bitrate:g}", f"`{name}`", *cells])
    return markdown_table(header, body)


def _cell(
    group: Sequence[Row], name: str, others: Sequence[Sequence[Row]], interval: bool
) -> str:
    found, better = average(group, name, part_of(name)), word(name).better
    text = _mean(group, name, interval)
    if found is None or not better or len(others) < 2:
        return text
    known = [average(each, name, part_of(name)) for each in others]
    values = [each.value for each in known if each is not None]
    best = max(values) if better == "higher" else min(values)
    is_best = found.value == best and min(values) < max(values)
    return f"**{text}**" if is_best else text


def _mean(group: Sequence[Row], name: str, interval: bool = True) -> str:
    found = average(group, name, part_of(name))
    if found is None:
        return "-"
    digits = word(name).digits
    text = f"{found.value:,.{digits}f}"
    if interval and found.low is not None and found.high is not None:
        low, high = f"{found.low:,.{digits}f}", f"{found.high:,.{digits}f}"
        spread = f"{found.high - found.value:,.{digits}f}"
        text += f" ± {spread}" if found.seeds > 1 else f" [{low}, {high}]"
    if found.seeds < len(group):
        text += f" ({found.seeds} of {len(group)} seeds)"
    return text


def _reference_line(rows: Sequence[Row]) -> list[str]:
    recognizers = [row for row in rows if row.cell.name is None]
    if average(recognizers, TOKEN_ERROR) is None:
        return []
    return [
        "Without a codec, the recognizer of log-mel features has a word error of "
        f"{_mean(recognizers, TOKEN_ERROR)}."
    ]


def _missing(rows: Sequence[Row]) -> list[str]:
    reasons = {name: why for row in rows for name, why in row.missing.items()}
    lines = [
        f"- {word(name).short}: {why or 'not measured'}"
        for name, why in reasons.items()
    ]
    return ["Missing metrics:\n\n" + "\n".join(lines)] if lines else []


def _picture(folder: Path, name: str, text: str) -> list[str]:
    return [f"![{text}]({name})"] if (folder / name).is_file() else []


def option_table(grid: Grid) -> str:
    """Return a Markdown table of the options of each quantizer at each bitrate."""
    cells = [cell for cell in grid.cells if cell.seed == grid.seeds[0] and cell.name]
    shared = {
        key: value
        for key, value in cells[0].codec.items()
        if all(key in c.codec and c.codec[key] == value for c in cells)
    }
    rows = [
        [f"`{c.name}`", f"{c.bitrate:g}", _options(c.codec, {*shared, "bandwidths"})]
        for c in cells
    ]
    table = markdown_table(["quantizer", "kbit/s", "options"], rows)
    lines = [table, f"All codecs: {_options(shared, {'bandwidths'})}."]
    lines.append(f"All recognizers: {_options(cells[0].ctc, set())}.")
    return "\n\n".join(lines)


def _options(options: dict[str, Any], hidden: set[str]) -> str:
    shown = {key: value for key, value in options.items() if key not in hidden}
    pairs = [
        f"{key}: {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in shown.items()
    ]
    return f"`{', '.join(pairs)}`" if pairs else "the defaults of the recipe"


def _machine(about: dict[str, Any]) -> str:
    machine = about["machine"]
    lines = [
        f"- {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}"
    ]
    if machine["gpu"]:
        lines.append(f"- {machine['gpu']}")
    versions = {k: v for k, v in about["versions"].items() if v is not None}
    lines.append("- " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown.

    Example
    -------
    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    texts = ["| " + " | ".join(line) + " |" for line in lines]
    texts[1] = "|" + "---|" * len(header)
    return "\n".join(texts)
