"""Interleaved timing of the contenders of a case in one process."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from sb_espnet_vq.bench.agreement import Agreement, compare
from sb_espnet_vq.bench.case import Case, Contender, Problem, Run, Sizes, on_device

_WARM_UPS = 2
# Pause between calls, since spinning threads of one library slow down the next.
_PAUSE_S = 0.005


class Setting(NamedTuple):
    """Device, threads and repeats of a measurement.

    Arguments
    ---------
    device : str
        "cpu" or "cuda".
    threads : int
        Number of threads of torch and faiss.
    repeats : int
        Number of timed calls of each contender.
    """

    device: str
    threads: int
    repeats: int


@dataclass
class Timing:
    """Seconds of each call of a contender, its agreement, and its error, if any."""

    samples_s: list[float] = field(default_factory=list)
    agreement: Agreement | None = None
    error: str | None = None


def time_interleaved(
    case: Case, names: list[str], sizes: Sizes, setting: Setting
) -> dict[str, Timing]:
    """Compare contenders with the reference, then time them in order A B C A B C ...

    Arguments
    ---------
    case : Case
    names : list of str
        Names of the contenders to time.
    sizes : mapping of str to int
    setting : Setting

    Returns
    -------
    dict of str to Timing
    """
    torch.set_num_threads(setting.threads)
    contenders = [each for each in case.contenders if each.name in names]
    timings = {each.name: Timing() for each in contenders}
    for problem in case.check_problems(sizes):
        reference = case.reference(problem)
        given = on_device(problem, setting.device)
        for each in _remaining(contenders, timings):
            with _recording_error(timings[each.name]):
                _check(each, given, reference, case.tolerance, timings[each.name])
    problem = on_device(case.problem(sizes), setting.device)
    runs: dict[str, Run] = {}
    for each in _remaining(contenders, timings):
        with _recording_error(timings[each.name]):
            runs[each.name] = each.build(problem)
    gc.collect()
    gc.disable()
    for turn in range(-_WARM_UPS, setting.repeats):
        for name, run in runs.items():
            if timings[name].error is None:
                with _recording_error(timings[name]):
                    time.sleep(_PAUSE_S)
                    seconds = stopwatch(setting.device)(run.step)
                    if turn >= 0:
                        timings[name].samples_s.append(seconds)
    gc.enable()
    return timings


def stopwatch(device: str) -> Callable[[Callable[[], Any]], float]:
    """Return a function that measures the seconds of one call on a device."""
    return _cuda_seconds if device == "cuda" else _cpu_seconds


def _cpu_seconds(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _cuda_seconds(step: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def _check(
    contender: Contender, problem: Problem, reference, tolerance: float, timing: Timing
) -> None:
    run = contender.build(problem)
    results = run.read(run.step())
    if not results:
        return
    if timing.agreement is None:
        timing.agreement = Agreement()
    compare(results, reference, tolerance, timing.agreement)


def _remaining(contenders: list[Contender], timings: dict[str, Timing]):
    return [each for each in contenders if timings[each.name].error is None]


@contextlib.contextmanager
def _recording_error(timing: Timing) -> Iterator[None]:
    """Record an error of a contender, so that the others can continue."""
    try:
        yield
    except Exception as error:
        timing.error = one_line(error)


def one_line(error: Exception) -> str:
    """Describe an error in one line."""
    text = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out of memory"
    if "can't allocate memory" in text or "bad_alloc" in text:
        return "out of memory"
    return f"{type(error).__name__}: {(text.splitlines() or [''])[0]}"
