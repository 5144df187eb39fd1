"""Measurement of one contender in a separate process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from sb_espnet_vq.bench.case import Case, Sizes, on_device
from sb_espnet_vq.bench.memory import extra_peak_bytes
from sb_espnet_vq.bench.timing import Setting, stopwatch


class Alone(NamedTuple):
    """Extra peak memory of the first call at full size, and seconds of later calls."""

    extra_peak_bytes: int
    samples_s: Sequence[float]


def measure_alone(case: Case, name: str, sizes: Sizes, setting: Setting) -> Alone:
    """Measure memory, then time ``setting.repeats`` calls.

    Arguments
    ---------
    case : Case
    name : str
        Name of the contender.
    sizes : mapping of str to int
    setting : Setting

    Returns
    -------
    Alone
    """
    torch.set_num_threads(setting.threads)
    (contender,) = [each for each in case.contenders if each.name == name]
    # A small problem first, so that one-time allocations of libraries do not count.
    contender.build(on_device(case.problem(case.quick), setting.device)).step()
    run = contender.build(on_device(case.problem(sizes), setting.device))
    peak = extra_peak_bytes(setting.device, run.step)
    seconds = stopwatch(setting.device)
    return Alone(peak, [seconds(run.step) for _ in range(setting.repeats)])
