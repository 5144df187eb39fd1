"""A case from its definition to figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from sb_espnet_vq.bench.agreement import Agreement
from sb_espnet_vq.bench.alone import measure_alone
from sb_espnet_vq.bench.case import FLOOR, OURS, Case, Contender, Sizes
from sb_espnet_vq.bench.isolation import Isolation
from sb_espnet_vq.bench.timing import Setting, time_in_turn
from sb_espnet_vq.errors import ChildError

Say = Callable[[str], None]


@dataclass
class Figures:
    """What was measured of one contender.

    Arguments
    ---------
    name, what : str
        As in `Contender`.
    note : str, optional
        Why there are no figures.
    samples_s : list of float
        Seconds of each call.
    extra_peak_bytes : int, optional
        Peak memory of a call above that before it.
    agreement : Agreement, optional
        With the reference; None for the floor.
    """

    name: str
    what: str
    note: str | None = None
    samples_s: list[float] = field(default_factory=list)
    extra_peak_bytes: int | None = None
    agreement: Agreement | None = None

    @property
    def median_s(self) -> float | None:
        """Seconds of the call in the middle."""
        return statistics.median(self.samples_s) if self.samples_s else None

    @property
    def quartiles_s(self) -> tuple[float, float] | None:
        """Seconds below which a quarter and three quarters of the calls lie."""
        if len(self.samples_s) < 2:
            return None
        first, _, third = statistics.quantiles(self.samples_s, method="inclusive")
        return first, third


@dataclass
class CaseFigures:
    """What was measured of one case, ours first."""

    name: str
    title: str
    floor: str
    sizes: dict[str, int]
    contenders: list[Figures]

    def median_s(self, name: str) -> float | None:
        """Return the median of a contender, None if it has none."""
        return next((f.median_s for f in self.contenders if f.name == name), None)

    def ratio(self, figures: Figures, to: str) -> float | None:
        """Return how many times longer than ``to`` a contender takes."""
        base = self.median_s(to)
        return figures.median_s / base if base and figures.median_s else None

    @property
    def faults(self) -> list[str]:
        """A line for each result that is wrong and for each failure of ours."""
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
    case: Case, sizes: Sizes, setting: Setting, isolation: Isolation, say: Say
) -> CaseFigures:
    """Measure memory of each contender alone, then time all of them in turn.

    Arguments
    ---------
    case : Case
    sizes : mapping of str to int
        The sizes of the case to use.
    setting : Setting
    isolation : Isolation
        Where processes come from.
    say : callable
        Called with a line before each part of the work.

    Returns
    -------
    CaseFigures
    """
    found = {each.name: _start(each, setting.device) for each in case.contenders}
    for figures in found.values():
        if figures.note is None:
            say(f"{case.name}: memory of {figures.what}")
            once = setting._replace(repeats=0)
            try:
                alone = isolation.call(measure_alone, case, figures.name, sizes, once)
                figures.extra_peak_bytes = alone.extra_peak_bytes
            except ChildError as error:
                figures.note = str(error)
    names = [figures.name for figures in found.values() if figures.note is None]
    say(f"{case.name}: {setting.repeats} rounds of {', '.join(names)}")
    try:
        timings = isolation.call(time_in_turn, case, names, sizes, setting)
    except ChildError as error:
        for name in names:
            found[name].note = str(error)
        timings = {}
    for name, timing in timings.items():
        figures = found[name]
        figures.samples_s = timing.samples_s
        figures.agreement = timing.agreement
        figures.note = timing.error
    return CaseFigures(
        case.name,
        case.title.format(**sizes),
        case.floor,
        dict(sizes),
        list(found.values()),
    )


def _start(contender: Contender, device: str) -> Figures:
    return Figures(contender.name, contender.what, contender.absence(device))
