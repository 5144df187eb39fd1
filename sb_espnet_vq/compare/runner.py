"""Runs the cells of a grid in parallel, on this machine or on a Ray cluster."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from importlib.util import find_spec
from typing import Any, Protocol

from sb_espnet_vq.compare.cells import Setting, run_cell, stop_all
from sb_espnet_vq.compare.grid import Cell, Grid
from sb_espnet_vq.errors import ChildError, ConfigError

Log = Callable[[str], None]


class Pool(Protocol):
    """Where cells run."""

    jobs: int

    def submit(self, cell: Cell, grid: Grid, setting: Setting) -> Future:
        """Start a cell as soon as there is room."""

    def stop(self) -> None:
        """Stop all cells."""


class LocalPool:
    """Processes of this machine, a number of cells at a time.

    Arguments
    ---------
    jobs : int
        Cells at a time.
    gpus : Sequence[str]
        GPUs to distribute the cells over, as in CUDA_VISIBLE_DEVICES; may be empty.
    """

    def __init__(self, jobs: int, gpus: Sequence[str] = ()):
        self.jobs = jobs
        self._executor = ThreadPoolExecutor(jobs)
        self._free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for number in range(jobs):
            gpu = gpus[number % len(gpus)] if gpus else None
            self._free.put({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})

    def submit(self, cell: Cell, grid: Grid, setting: Setting) -> Future:
        """Start a cell as soon as there is room."""
        return self._executor.submit(self._run, cell, grid, setting)

    def _run(self, cell: Cell, grid: Grid, setting: Setting) -> None:
        environment = self._free.get()
        try:
            run_cell(cell, grid, setting, environment)
        finally:
            self._free.put(environment)

    def stop(self) -> None:
        """Stop all cells."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        stop_all()


class RayPool:
    """Tasks of a Ray cluster, whose machines share the folder of the comparison.

    Arguments
    ---------
    address : str
        Of the cluster, as for ``ray.init``; ``local`` starts one on this machine.
    threads : int
        CPUs of a cell.
    gpus : float
        GPUs of a cell; below 1, several cells share one.

    Raises
    ------
    ConfigError
        If Ray is not installed or there is no such cluster.
    """

    def __init__(self, address: str, threads: int, gpus: float):
        if find_spec("ray") is None:
            raise ConfigError("--ray needs Ray: pip install 'sb_espnet_vq[cluster]'")
        import ray

        try:
            ray.init(address, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"--ray {address}: {error}") from None
        self._ray = ray
        self.jobs = max(1, int(ray.cluster_resources().get("CPU", 1) // threads))
        resources = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)
        self._task: Any = resources(run_cell)

    def submit(self, cell: Cell, grid: Grid, setting: Setting) -> Future:
        """Start a cell as soon as there is room."""
        return self._task.remote(cell, grid, setting, {}).future()

    def stop(self) -> None:
        """Stop all cells: the processes of a task end with it."""
        self._ray.shutdown()


def visible_gpus(device: str) -> list[str]:
    """Return the GPUs to distribute cells over; none for the CPU or a numbered GPU."""
    if device != "cuda":
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given:
        return [each.strip() for each in given.split(",")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def run_cells(
    cells: Sequence[Cell], grid: Grid, setting: Setting, pool: Pool, log: Log
) -> dict[str, str]:
    """Run cells: first the recognizers, which the others need, then the others.

    Arguments
    ---------
    cells : Sequence[Cell]
        Those that have not finished.
    grid : Grid
        The whole grid.
    setting : Setting
        What is the same for all.
    pool : Pool
        Where they run.
    log : callable
        Receives a line for each finished cell.

    Returns
    -------
    dict[str, str]
        Why cells failed, by their id.
    """
    progress = _Progress(len(grid.cells), len(cells), pool.jobs, log)
    failures: dict[str, str] = {}
    # Seed by seed, so that an interrupted comparison has whole tables.
    cells = sorted(cells, key=lambda cell: grid.seeds.index(cell.seed))
    first = [cell for cell in cells if cell.name is None]
    others = [cell for cell in cells if cell.name is not None]
    try:
        if setting.asr:
            failures |= _run_all(first, grid, setting, pool, progress)
            lost = {cell.seed for cell in first if cell.id in failures}
            for cell in others:
                if cell.seed in lost:
                    failures[cell.id] = "the recognizer of this seed failed"
            others = [cell for cell in others if cell.seed not in lost]
            first = []
        failures |= _run_all([*first, *others], grid, setting, pool, progress)
    except BaseException:
        pool.stop()
        raise
    return failures


def _run_all(
    cells: Sequence[Cell], grid: Grid, setting: Setting, pool: Pool, progress: Any
) -> dict[str, str]:
    waiting = {pool.submit(cell, grid, setting): cell for cell in cells}
    failures = {}
    while waiting:
        # With a timeout, since Python handles signals between two waits.
        done, _ = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
        for future in done:
            cell = waiting.pop(future)
            error = future.exception()
            if error is not None:
                failures[cell.id] = _reason(error)
            progress.report(cell, failures.get(cell.id))
    return failures


def _reason(error: BaseException) -> str:
    # Ray raises an error of its own, which derives from that of the task.
    if isinstance(error, ChildError | OSError):
        return str(getattr(error, "cause", None) or error)
    return f"{type(error).__name__}: {error}"


class _Progress:
    """Prints a line for each cell, with an estimate of the remaining time."""

    def __init__(self, total: int, left: int, jobs: int, log: Log):
        self.total, self.left, self.jobs, self.log = total, left, jobs, log
        self.started, self.done = time.monotonic(), 0

    def report(self, cell: Cell, failure: str | None) -> None:
        self.left -= 1
        self.done += 1
        spent = time.monotonic() - self.started
        minutes = spent / self.done * self.left / 60
        outcome = f"FAILED: {failure}" if failure else "finished"
        rest = f"about {minutes:.0f} min left" if self.left else "none left"
        count = f"[{self.total - self.left}/{self.total}]"
        self.log(f"{count} {cell.title}: {outcome}; {rest}")
