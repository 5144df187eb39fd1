"""Constructors of contenders: classes by path, plain functions, lower bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.bench.case import (
    FAISS,
    FLOOR,
    OURS,
    PLAIN,
    UPSTREAM,
    VQP,
    Contender,
    Problem,
    Run,
)

#: Creates the `Run` of a class for a problem.
RunClass = Callable[[Any, Problem], Run]

_TOOLKITS = {"speechbrain": "SpeechBrain", "espnet2": "ESPnet"}


@dataclass(frozen=True)
class BuildClass:
    """Imports a class when the contender is built, in the process that measures it.

    Arguments
    ---------
    path : str
        Full path of the class.
    run : callable
        Creates a `Run` from the class and the problem. A module-level function.
    """

    path: str
    run: RunClass

    def __call__(self, problem: Problem) -> Run:
        """Return the contender, ready to run."""
        module, _, name = self.path.rpartition(".")
        return self.run(getattr(import_module(module), name), problem)


@dataclass(frozen=True)
class BuildIndex(BuildClass):
    """`BuildClass` for a faiss index, with the number of threads of torch."""

    def __call__(self, problem: Problem) -> Run:
        """Return the index, ready to run."""
        threads = import_module("faiss").omp_set_num_threads
        threads(torch.get_num_threads())
        return super().__call__(problem)


@dataclass(frozen=True)
class BuildFloor:
    """Creates the `Run` of a lower bound, which has no results to compare.

    Arguments
    ---------
    steps : callable
        Creates the timed function from the problem. A module-level function.
    """

    steps: Callable[[Problem], Callable[[], Any]]

    def __call__(self, problem: Problem) -> Run:
        """Return the lower bound, ready to run."""
        return Run(self.steps(problem), _no_results)


def _no_results(result: object) -> dict[str, Tensor]:
    return {}


def ours(path: str, run: RunClass) -> Contender:
    """Return the contender for a class of this package, given its path."""
    return Contender(OURS, "ours", BuildClass(path, run))


def drop_in_and_original(path: str, run: RunClass) -> tuple[Contender, Contender]:
    """Return the contenders for a toolkit's class and for its drop-in replacement.

    Arguments
    ---------
    path : str
        Full path of the toolkit's class.
    run : callable
        As in `BuildClass`; the same function for both classes.

    Returns
    -------
    tuple of Contender
        Ours first.
    """
    toolkit, _, rest = path.partition(".")
    original = BuildClass(path, run)
    module = path.rpartition(".")[0]
    return (
        ours(f"sb_espnet_vq.{rest}", run),
        Contender(UPSTREAM, _TOOLKITS[toolkit], original, module),
    )


def vqp(name: str, run: RunClass, note: str = "") -> Contender:
    """Return the contender for a class of vector-quantize-pytorch."""
    what = f"vector-quantize-pytorch {note}".rstrip()
    module = "vector_quantize_pytorch"
    return Contender(VQP, what, BuildClass(f"{module}.{name}", run), module)


def faiss(index: str, run: RunClass) -> Contender:
    """Return the contender for a faiss index, measured on CPUs only."""
    build = BuildIndex(f"faiss.{index}", run)
    return Contender(FAISS, f"faiss {index}", build, "faiss", on_cuda=False)


def plain(what: str, build: Callable[[Problem], Run]) -> Contender:
    """Return the contender for an implementation without optimization."""
    return Contender(PLAIN, what, build)


def floor(steps: Callable[[Problem], Callable[[], Any]]) -> Contender:
    """Return the contender for a lower bound."""
    return Contender(FLOOR, "lower bound", BuildFloor(steps))
