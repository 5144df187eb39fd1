"""The folder of a comparison: which cells it has, and with which settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sb_espnet_vq.compare.cells import Setting
from sb_espnet_vq.compare.grid import Grid
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.utils.files import write_text

_FILE = "grid.json"


def stored_threads(folder: Path) -> int | None:
    """Return the number of threads with which a comparison was started, if it was.

    Results depend on it in the last digits, so that a resumed comparison keeps it.
    """
    stored = _read(folder)
    return None if stored is None else stored["threads"]


def store(grid: Grid, setting: Setting) -> None:
    """Write the grid into the folder, or compare it with the one that is there.

    Cells may be added to it.

    Raises
    ------
    ConfigError
        If a cell that is there is missing from the grid or has other options, or the
        settings are others; nothing is written then.
    """
    new = _describe(grid, setting)
    stored = _read(setting.folder)
    if stored is not None:
        _compare(stored, new, setting.folder)
    write_text(setting.folder / _FILE, json.dumps(new, indent=1) + "\n")


def _describe(grid: Grid, setting: Setting) -> dict[str, Any]:
    # Through JSON, so that it equals what is read from the file.
    described = {
        "device": setting.device.partition(":")[0],
        "threads": setting.threads,
        "hparams": {"codec": _hash(grid.codec), "ctc": _hash(grid.ctc)},
        "cells": {
            cell.id: {"codec": cell.codec, "ctc": cell.ctc} for cell in grid.cells
        },
    }
    return json.loads(json.dumps(described))


def _compare(stored: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    advice = "give --out another folder, or the command that started this one"
    for key, text in (("device", "--device"), ("threads", "--threads")):
        if stored[key] != new[key]:
            raise ConfigError(
                f"{folder} was started with {text} {stored[key]}, not {new[key]}; "
                f"{advice}"
            )
    for recipe, before in stored["hparams"].items():
        if new["hparams"][recipe] != before:
            raise ConfigError(
                f"{folder} was started with another YAML file of the recipe {recipe}; "
                f"{advice}"
            )
    for name, before in stored["cells"].items():
        now = new["cells"].get(name)
        if now is None:
            raise ConfigError(
                f"{folder} has a cell {name}, which is not in the grid; cells can only "
                f"be added: {advice}"
            )
        if now != before:
            raise ConfigError(
                f"{folder}: the options of {name} were others: {_change(before, now)}; "
                f"{advice}"
            )


def _change(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Name the first option that differs."""
    missing = "not set"
    for recipe in ("codec", "ctc"):
        for key in {**before[recipe], **now[recipe]}:
            old, new = (each[recipe].get(key, missing) for each in (before, now))
            if old != new:
                return f"{recipe}: {key} was {old}, now {new}"
    return "in their order"


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(folder: Path) -> dict[str, Any] | None:
    file = folder / _FILE
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"{file}: not a grid of this command") from None
