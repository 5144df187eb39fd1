"""Results as plain-text tables, which are valid Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sb_espnet_vq.bench.case import FLOOR, OURS
from sb_espnet_vq.bench.runner import CaseResult, Measurement
from sb_espnet_vq.bench.sweeps import SweepResult
from sb_espnet_vq.utils.files import write_text

_HEADER = (
    "",
    "median ms",
    "quartiles ms",
    "x ours",
    "x bound",
    "extra MiB",
    "agrees with reference",
)


def case_table(case: CaseResult) -> str:
    """Return title, table of contenders and lower bound of a case.

    Arguments
    ---------
    case : CaseResult

    Returns
    -------
    str
        Plain ASCII that is a table in Markdown.
    """
    cells = [list(_HEADER), *(_cells(case, each) for each in case.contenders)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(_HEADER))]
    # Numbers are aligned to the right, texts to the left.
    text = [n in (0, len(_HEADER) - 1) for n in range(len(_HEADER))]
    rule = [
        "-" * width if is_text else "-" * (width - 1) + ":"
        for width, is_text in zip(widths, text, strict=True)
    ]
    cells.insert(1, rule)
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if is_text else cell.rjust(width)
            for cell, width, is_text in zip(row, widths, text, strict=True)
        )
        + " |"
        for row in cells
    ]
    return "\n".join([f"{case.name}: {case.title}", "", *lines, "", _lower_bound(case)])


def machine_lines(machine: dict, versions: dict, setting: dict) -> str:
    """Return machine, setting and versions as two lines."""
    device = machine["gpu"] or machine["processor"]
    where = f"{device}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    used = [f"{name} {number}" for name, number in versions.items() if number]
    return (
        f"Machine: {where}; {setting['threads']} thread(s), "
        f"{setting['repeats']} interleaved rounds, device {setting['device']}\n\n"
        f"Versions: {', '.join(used)}"
    )


def write_json(
    path: str | Path,
    about: dict[str, Any],
    cases: Sequence[CaseResult],
    sweeps: Sequence[SweepResult],
) -> None:
    """Write all measurements atomically.

    Arguments
    ---------
    path : str or Path
    about : dict
        Machine, versions and setting.
    cases : sequence of CaseResult
    sweeps : sequence of SweepResult
    """
    content = {
        **about,
        "cases": [_case_dict(case) for case in cases],
        "sweeps": [asdict(sweep) for sweep in sweeps],
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _case_dict(case: CaseResult) -> dict[str, Any]:
    content = asdict(case)
    for shown, each in zip(content["contenders"], case.contenders, strict=True):
        shown["median_s"] = each.median_s
        shown["quartiles_s"] = each.quartiles_s
        shown["ratio_to_ours"] = case.ratio(each, OURS)
        shown["ratio_to_floor"] = case.ratio(each, FLOOR)
        agreement = shown["agreement"]
        if agreement and agreement["max_difference"] == float("inf"):
            # JSON has no infinity.
            agreement["max_difference"] = "infinite"
    return content


def _cells(case: CaseResult, each: Measurement) -> list[str]:
    if each.note is not None:
        return [each.what, *["-"] * (len(_HEADER) - 2), each.note.replace("|", "/")]
    quartiles = each.quartiles_s
    return [
        each.what,
        _milliseconds(each.median_s),
        "-" if quartiles is None else " to ".join(map(_milliseconds, quartiles)),
        _ratio(case.ratio(each, OURS)),
        _ratio(case.ratio(each, FLOOR)),
        _mebibytes(each.extra_peak_bytes),
        _agreement(each),
    ]


def _agreement(each: Measurement) -> str:
    if each.agreement is None:
        return ""
    return f"{'' if each.agreement.agrees else 'NO! '}{each.agreement}"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    value = 1000 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _mebibytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:.1f}"


def _lower_bound(case: CaseResult) -> str:
    return f"Lower bound: {case.floor}."
