"""What a benchmark is made of: a workload, and who does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

from torch import Tensor

# Names, so that tables and plots know who is who.
OURS, UPSTREAM, VQP, FAISS, PLAIN, FLOOR = (
    "ours",
    "upstream",
    "vqp",
    "faiss",
    "plain",
    "floor",
)

Sizes = Mapping[str, int]
# Inputs and parameters, by name: every contender gets the same.
Problem = dict[str, Any]
Results = dict[str, Tensor]


class Run(NamedTuple):
    """One contender, ready to start.

    Arguments
    ---------
    step : callable
        Does the work once; this is what is timed.
    read : callable
        Turns what ``step`` returned into named tensors, which are compared with
        the reference: integers are codes, the others have frames as rows. Called
        right after the first step, outside the timing.
    """

    step: Callable[[], Any]
    read: Callable[[Any], Results]


@dataclass(frozen=True)
class Contender:
    """Who does the work.

    Arguments
    ---------
    name : str
        One of the names above, unique in a case.
    what : str
        What stands in the table.
    build : callable
        Problem to `Run`. It is sent to a process, so that it must pickle.
    module : str, optional
        What it imports; where that is not installed, the contender is left out.
    on_cuda : bool
        Whether it can run on a GPU.
    """

    name: str
    what: str
    build: Callable[[Problem], Run]
    module: str | None = None
    on_cuda: bool = True

    def absence(self, device: str) -> str | None:
        """Return why the contender cannot take part, None if it can."""
        if self.module and find_spec(self.module.partition(".")[0]) is None:
            return "not installed"
        if device != "cpu" and not self.on_cuda:
            return "CPU only"
        return None


@dataclass(frozen=True)
class Case:
    """A workload.

    Arguments
    ---------
    name : str
        What the command line calls it.
    title : str
        A line about it, with ``{size}`` in places.
    sizes, quick : mapping of str to int
        The real sizes, and ones that take milliseconds.
    problem : callable
        Sizes to the `Problem` that is timed, on the CPU, the same at every call.
    reference : callable
        `Problem` to what must come out, in the obvious way and in float64. A
        contender may give fewer of these results, where its own are other ones by
        design.
    contenders : tuple of Contender
    floor : str
        What the floor does.
    tolerance : float
        Largest difference of a result, as a share of the largest value of its
        tensor.
    checks : callable, optional
        Sizes to the list of problems on which results are compared. Default: the
        timed one.
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
    """Return the problem with its tensors on a device."""
    return {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in problem.items()
    }
