"""Measurement of all contenders of a case."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from sb_espnet_vq.bench.agreement import Agreement
from sb_espnet_vq.bench.alone import measure_alone
from sb_espnet_vq.bench.case import FLOOR, OURS, Case, Contender, Sizes
from sb_espnet_vq.bench.isolation import Isolation
from sb_espnet_vq.bench.timing import Setting, time_interleaved
from sb_espnet_vq.errors import ChildError

Log = Callable[[str], None]


@dataclass
class Measurement:
    """Time, memory and agreement of one contender.

    Arguments
    ---------
    name, what : str
        As in `Contender`.
    note : str, optional
        Why it was not measured.
    samples_s : list of float
        Seconds of each call.
    extra_peak_bytes : int, optional
        Increase of peak memory during a call.
    agreement : Agreement, optional
        Agreement with the reference; None for the lower bound.
    """

    name: str
    what: str
    note: str | None = None
    samples_s: list[float] = field(default_factory=list)
    extra_peak_bytes: int | None = None
    agreement: Agreement | None = None

    @property
    def median_s(self) -> float | None:
        """Median time of a call in seconds."""
        return statistics.median(self.samples_s) if self.samples_s else None

    @property
    def quartiles_s(self) -> tuple[float, float] | None:
        """First and third quartile of the time of a call in seconds."""
        if len(self.samples_s) < 2:
            return None
        first, _, third = statistics.quantiles(self.samples_s, method="inclusive")
        return first, third


@dataclass
class CaseResult:
    """Measurements of one case, ours first."""

    name: str
    title: str
    floor: str
    sizes: dict[str, int]
    contenders: list[Measurement]

    def median_s(self, name: str) -> float | None:
        """Return the median of a contender, None if it has none."""
        return next((m.median_s for m in self.contenders if m.name == name), None)

    def ratio(self, measured: Measurement, to: str) -> float | None:
        """Return the time of a contender relative to that of the contender ``to``."""
        base = self.median_s(to)
        return measured.median_s / base if base and measured.median_s else None

    @property
    def errors(self) -> list[str]:
        """One line for each wrong result and each failure of ours."""
        lines = [
            f"{self.name}: {each.what} DISAGREES with the reference ({each.agreement})"
            for each in self.contenders
            if each.agreement is not None and not each.agreement.agrees
        ]
        for each in self.contenders:
            if each.name in (OURS, FLOOR) and each.note:
                lines.append(f"{self.name}: {each.what} FAILED: {each.note}")
        return lines


def run_case(
    case: Case, sizes: Sizes, setting: Setting, isolation: Isolation, log: Log
) -> CaseResult:
    """Measure the memory of each contender separately, then time all interleaved.

    Arguments
    ---------
    case : Case
    sizes : mapping of str to int
        Sizes of the workload.
    setting : Setting
    isolation : Isolation
        Starts the processes.
    log : callable
        Called with a line before each part of the work.

    Returns
    -------
    CaseResult
    """
    results = {each.name: _start(each, setting.device) for each in case.contenders}
    for measured in results.values():
        if measured.note is None:
            log(f"{case.name}: memory of {measured.what}")
            once = setting._replace(repeats=0)
            try:
                alone = isolation.call(measure_alone, case, measured.name, sizes, once)
                measured.extra_peak_bytes = alone.extra_peak_bytes
            except ChildError as error:
                measured.note = str(error)
    names = [measured.name for measured in results.values() if measured.note is None]
    log(f"{case.name}: {setting.repeats} rounds of {', '.join(names)}")
    try:
        timings = isolation.call(time_interleaved, case, names, sizes, setting)
    except ChildError as error:
        for name in names:
            results[name].note = str(error)
        timings = {}
    for name, timing in timings.items():
        measured = results[name]
        measured.samples_s = timing.samples_s
        measured.agreement = timing.agreement
        measured.note = timing.error
    return CaseResult(
        case.name,
        case.title.format(**sizes),
        case.floor,
        dict(sizes),
        list(results.values()),
    )


def _start(contender: Contender, device: str) -> Measurement:
    return Measurement(contender.name, contender.what, contender.absence(device))
