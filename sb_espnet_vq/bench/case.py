"""Definition of a benchmark: a workload and its implementations (contenders)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

from torch import Tensor

# Names of contenders. FLOOR is the lower bound of the cost.
OURS, UPSTREAM, VQP, FAISS, PLAIN, FLOOR = (
    "ours",
    "upstream",
    "vqp",
    "faiss",
    "plain",
    "floor",
)

Sizes = Mapping[str, int]
# Inputs and parameters by name, the same for every contender.
Problem = dict[str, Any]
Results = dict[str, Tensor]


class Run(NamedTuple):
    """A contender that is ready to run.

    Arguments
    ---------
    step : callable
        Runs the workload once; this call is timed.
    read : callable
        Converts the result of ``step`` to named tensors for the comparison with the
        reference: integer tensors are codes, rows of float tensors are frames. Called
        right after the first step and not timed.
    """

    step: Callable[[], Any]
    read: Callable[[Any], Results]


@dataclass(frozen=True)
class Contender:
    """An implementation of a workload.

    Arguments
    ---------
    name : str
        One of the names above, unique in a case.
    what : str
        Label in tables.
    build : callable
        Builds a `Run` for a `Problem`. A module-level function, since it is pickled.
    module : str, optional
        Module that it requires; without it the contender is skipped.
    on_cuda : bool
        Whether it can run on a GPU.
    """

    name: str
    what: str
    build: Callable[[Problem], Run]
    module: str | None = None
    on_cuda: bool = True

    def absence(self, device: str) -> str | None:
        """Return why the contender cannot run, None if it can."""
        if self.module and find_spec(self.module.partition(".")[0]) is None:
            return "not installed"
        if device != "cpu" and not self.on_cuda:
            return "CPU only"
        return None


@dataclass(frozen=True)
class Case:
    """A workload with its reference and contenders.

    Arguments
    ---------
    name : str
        Name on the command line.
    title : str
        Description in one line, with ``{size}`` placeholders.
    sizes, quick : mapping of str to int
        Realistic sizes, and sizes that take milliseconds.
    problem : callable
        Creates the timed `Problem` of given sizes on the CPU, deterministically.
    reference : callable
        Computes the expected results of a `Problem` with a simple float64
        implementation. A contender may omit results that differ by design.
    contenders : tuple of Contender
    floor : str
        Operations of the lower bound, for the line below the table.
    tolerance : float
        Largest difference of a result, relative to the largest value of its tensor.
    checks : callable, optional
        Creates the list of problems on which results are compared. Default: the timed
        one.
    """

    name: str
    title: str
    sizes: Sizes
    quick: Sizes
    problem: Callable[[Sizes], Problem]
    reference: Callable[[Problem], Results]
    contenders: tuple[Contender, ...]
    floor: str
    tolerance: float = 1e-4
    checks: Callable[[Sizes], list[Problem]] | None = None

    def check_problems(self, sizes: Sizes) -> list[Problem]:
        """Return the problems on which results are compared."""
        return [self.problem(sizes)] if self.checks is None else self.checks(sizes)


def on_device(problem: Problem, device: str) -> Problem:
    """Return the problem with its tensors moved to a device."""
    return {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in problem.items()
    }
