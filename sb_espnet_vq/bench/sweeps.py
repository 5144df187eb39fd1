"""Time and memory against the number of frames, codebook size and bits per code."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from sb_espnet_vq.bench.alone import measure_alone
from sb_espnet_vq.bench.case import FAISS, Case
from sb_espnet_vq.bench.cases import CASES
from sb_espnet_vq.bench.isolation import Isolation
from sb_espnet_vq.bench.runner import Log
from sb_espnet_vq.bench.timing import Setting
from sb_espnet_vq.errors import ChildError

_REPEATS = 3
# A contender's line ends if its next point would exceed one of these limits.
_MAX_S = 10.0
_MAX_BYTES = 3 * 2**30


@dataclass(frozen=True)
class Sweep:
    """Variation of one size of a case.

    Arguments
    ---------
    case : Case
    size : str
        Name of the size that varies.
    label : str
        Name and unit of the axis.
    values, quick : tuple of int
        Values in ascending order.
    fixed : dict of str to int
        Other sizes that differ from those of the case.
    growth : callable
        Expected cost of a plain implementation at a value, up to a constant factor.
    """

    case: Case
    size: str
    label: str
    values: tuple[int, ...]
    quick: tuple[int, ...]
    fixed: dict[str, int] = field(default_factory=dict)
    growth: Callable[[int], float] = float


@dataclass
class Line:
    """Measurements of one contender: values, median seconds and bytes."""

    name: str
    what: str
    values: list[int] = field(default_factory=list)
    median_s: list[float] = field(default_factory=list)
    extra_peak_bytes: list[int] = field(default_factory=list)
    ended: str | None = None


@dataclass
class SweepResult:
    """Measurements of one sweep."""

    case: str
    title: str
    size: str
    label: str
    lines: list[Line]


def _power_of_two(bits: int) -> float:
    return 2.0**bits


SWEEPS = (
    Sweep(
        CASES["rvq_encode"],
        "frames",
        "frames",
        # The last is an hour at 75 Hz.
        values=(1024, 4096, 16384, 65536, 270000),
        quick=(64, 256),
        fixed={"batch": 1},
    ),
    Sweep(
        CASES["random_projection"],
        "codebook_size",
        "codebook size (codes)",
        values=(512, 2048, 8192, 32768, 131072),
        quick=(64, 256),
    ),
    Sweep(
        CASES["bsq"],
        "bits",
        "code bits",
        values=(8, 10, 12, 13, 14, 16, 18, 20),
        quick=(4, 6),
        growth=_power_of_two,
    ),
)


def run_sweep(
    sweep: Sweep, quick: bool, setting: Setting, isolation: Isolation, log: Log
) -> SweepResult:
    """Measure every contender at all values within its limits.

    Arguments
    ---------
    sweep : Sweep
    quick : bool
        Use the small sizes.
    setting : Setting
        Its number of repeats is ignored, since there are many points.
    isolation : Isolation
    log : callable
        Called with a line before each part of the work.

    Returns
    -------
    SweepResult
    """
    case, values = sweep.case, sweep.quick if quick else sweep.values
    sizes = {**(case.quick if quick else case.sizes), **sweep.fixed}
    setting = setting._replace(repeats=_REPEATS)
    lines = []
    for each in case.contenders:
        # faiss scales like ours, and the figure is easier to read without it.
        if each.name == FAISS or each.absence(setting.device):
            continue
        line = Line(each.name, each.what)
        for value in values:
            line.ended = _why_stop(line, value, sweep.growth)
            if line.ended is None:
                log(f"{case.name}: {each.what} at {sweep.size} {value}")
                point = {**sizes, sweep.size: value}
                _measure(line, case, point, value, setting, isolation)
            if line.ended is not None:
                break
        lines.append(line)
    title = case.title.format(**{**sizes, sweep.size: "n"})
    return SweepResult(case.name, title, sweep.size, sweep.label, lines)


def _measure(line, case, sizes, value, setting, isolation) -> None:
    try:
        alone = isolation.call(measure_alone, case, line.name, sizes, setting)
    except ChildError as error:
        line.ended = str(error)
        return
    line.values.append(value)
    line.median_s.append(statistics.median(alone.samples_s))
    line.extra_peak_bytes.append(alone.extra_peak_bytes)


def _why_stop(line: Line, value: int, growth: Callable[[int], float]) -> str | None:
    if not line.values:
        return None
    factor = growth(value) / growth(line.values[-1])
    if line.median_s[-1] * factor > _MAX_S:
        return f"next point would take more than {_MAX_S:g} s"
    if line.extra_peak_bytes[-1] * factor > _MAX_BYTES:
        return f"next point would need more than {_MAX_BYTES / 2**30:g} GiB"
    return None
