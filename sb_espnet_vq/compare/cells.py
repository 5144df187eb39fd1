"""Runs the recipes of a cell, one after the other, in a process for each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sb_espnet_vq._resources import checkout_root, find_recipe
from sb_espnet_vq.compare.grid import Cell, Grid, Options
from sb_espnet_vq.errors import ChildError
from sb_espnet_vq.utils.files import write_text

COST = "cost.json"
_GRACE_SECONDS = 10


class Step(NamedTuple):
    """A recipe to run: its name, YAML file, options, and the output folder."""

    recipe: str
    hparams: Path
    options: Options
    folder: Path

    def command(self, device: str) -> list[str]:
        """Return the words after the interpreter that start the recipe."""
        words = [str(find_recipe(self.recipe).folder / "train.py"), str(self.hparams)]
        options = self.options | {"output_folder": str(self.folder)}
        for key, value in options.items():
            text = value if isinstance(value, str) else json.dumps(value)
            words += [f"--{key}", text]
        return [*words, f"--device={device}", "--noprogressbar"]


class Setting(NamedTuple):
    """What is the same for all cells of a comparison.

    folder : of the comparison; device : as PyTorch names it; threads : CPU threads of a
    process; asr : whether the configuration of the codec has an option for a
    recognizer.
    """

    folder: Path
    device: str
    threads: int
    asr: bool


def steps_of(cell: Cell, grid: Grid, setting: Setting) -> list[Step]:
    """Return the recipes of a cell in their order.

    The recognizer of a seed transcribes the audio that the codecs of this seed decode,
    and another is trained on the tokens of each codec.
    """
    home = setting.folder / cell.id
    seed = {"seed": cell.seed}
    if cell.name is None:
        return [Step("ctc", grid.ctc, cell.ctc | seed, home / "ctc")]
    codec = cell.codec | seed
    if setting.asr:
        listener = Cell(None, None, cell.seed, {}, {})
        codec["asr"] = str(setting.folder / listener.id / "ctc")
    tokens = {"tokens": str(home / "codec")}
    return [
        Step("codec", grid.codec, codec, home / "codec"),
        Step("ctc", grid.ctc, cell.ctc | seed | tokens, home / "ctc"),
    ]


def is_finished(cell: Cell, grid: Grid, setting: Setting) -> bool:
    """Return whether all recipes of a cell have ended with results."""
    done = read_cost(setting.folder / cell.id)
    return all(step.recipe in done for step in steps_of(cell, grid, setting))


def read_cost(home: Path) -> dict[str, Any]:
    """Return what the finished recipes of a cell have cost, by recipe."""
    file = home / COST
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def run_cell(
    cell: Cell, grid: Grid, setting: Setting, environment: Mapping[str, str]
) -> None:
    """Run the recipes of a cell that have not finished; resume an interrupted one.

    Arguments
    ---------
    cell, grid, setting
        What to run, and where.
    environment : Mapping[str, str]
        Variables of the processes in addition to those of this one.

    Raises
    ------
    ChildError
        If a recipe fails; the message names its log.
    """
    home = setting.folder / cell.id
    for step in steps_of(cell, grid, setting):
        done = read_cost(home)
        if step.recipe in done:
            continue
        done[step.recipe] = _run(step, setting, environment)
        write_text(home / COST, json.dumps(done, indent=1) + "\n")


# Processes that run at the moment.
_running: set[subprocess.Popen] = set()
_stopped = threading.Event()
# Held while a process starts, so that none starts unnoticed while all are stopped.
_starting = threading.Lock()


def _run(step: Step, setting: Setting, environment: Mapping[str, str]) -> dict:
    """Run a recipe and return its cost."""
    log = step.folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sb_espnet_vq.compare.child"]
    command += step.command(setting.device)
    with log.open("ab") as output, _starting:
        if _stopped.is_set():
            raise ChildError("stopped")
        child = subprocess.Popen(
            command,
            env=_environment(setting.threads) | dict(environment),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this process alone, which then stops its children.
            start_new_session=True,
        )
        _running.add(child)
    try:
        status, used = _wait(child)
    finally:
        _running.discard(child)
        if child.stdin:
            child.stdin.close()
    if status:
        raise ChildError(f"{step.recipe} ended with status {status}; log: {log}")
    # Bytes on macOS, KiB elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_bytes": used.ru_maxrss * unit}


def _wait(child: subprocess.Popen) -> tuple[int, Any]:
    """Wait for a child; return its status and what it has used."""
    _, ended, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(ended)
    return child.returncode, used


def stop_all() -> None:
    """Terminate all recipes of this process; kill those that do not end soon."""
    with _starting:
        _stopped.set()
    for child in list(_running):
        _signal(child, signal.SIGTERM)
    end = time.monotonic() + _GRACE_SECONDS
    while _running and time.monotonic() < end:
        time.sleep(0.05)
    for child in list(_running):
        _signal(child, signal.SIGKILL)


def _signal(child: subprocess.Popen, number: int) -> None:
    if child.returncode is None:
        os.kill(child.pid, number)


def _environment(threads: int) -> dict[str, str]:
    variables = dict(os.environ)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    variables |= dict.fromkeys(names, str(threads))
    # Cells share the processors: waiting threads must not take time from others.
    variables.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    variables["PYTHONUNBUFFERED"] = "1"
    root = checkout_root()
    if root is not None:
        paths = filter(None, [str(root), variables.get("PYTHONPATH")])
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    return variables
