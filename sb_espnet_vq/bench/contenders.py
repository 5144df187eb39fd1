"""The contenders of a case: classes by their paths, and the floor."""

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

#: From a class and a problem to what is timed.
RunClass = Callable[[Any, Problem], Run]

_TOOLKITS = {"speechbrain": "SpeechBrain", "espnet2": "ESPnet"}


@dataclass(frozen=True)
class BuildClass:
    """Imports a class when the contender is built, in whichever process that is.

    Arguments
    ---------
    path : str
        Full path of the class.
    run : callable
        The class and the problem to a `Run`; a function of a module.
    """

    path: str
    run: RunClass

    def __call__(self, problem: Problem) -> Run:
        """Return the contender, ready to start."""
        module, _, name = self.path.rpartition(".")
        return self.run(getattr(import_module(module), name), problem)


@dataclass(frozen=True)
class BuildIndex(BuildClass):
    """The same for an index of faiss, with as many threads as torch has."""

    def __call__(self, problem: Problem) -> Run:
        """Return the index, ready to start."""
        threads = import_module("faiss").omp_set_num_threads
        threads(torch.get_num_threads())
        return super().__call__(problem)


@dataclass(frozen=True)
class BuildFloor:
    """Turns the step of a floor, which computes no result, into a `Run`.

    Arguments
    ---------
    steps : callable
        Problem to the function that is timed; a function of a module.
    """

    steps: Callable[[Problem], Callable[[], Any]]

    def __call__(self, problem: Problem) -> Run:
        """Return the floor, ready to start."""
        return Run(self.steps(problem), _no_results)


def _no_results(result: object) -> dict[str, Tensor]:
    return {}


def ours(path: str, run: RunClass) -> Contender:
    """Return the contender of a class of this package, by its path."""
    return Contender(OURS, "ours", BuildClass(path, run))


def drop_in_and_original(path: str, run: RunClass) -> tuple[Contender, Contender]:
    """Return the contenders of a toolkit's class and of the drop-in class for it.

    Arguments
    ---------
    path : str
        Full path of the toolkit's class.
    run : callable
        What `BuildClass` takes, for either class.

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
    """Return the contender of a class of vector-quantize-pytorch."""
    what = f"vector-quantize-pytorch {note}".rstrip()
    module = "vector_quantize_pytorch"
    return Contender(VQP, what, BuildClass(f"{module}.{name}", run), module)


def faiss(index: str, run: RunClass) -> Contender:
    """Return the contender of an index of faiss, which has no GPU here."""
    build = BuildIndex(f"faiss.{index}", run)
    return Contender(FAISS, f"faiss {index}", build, "faiss", on_cuda=False)


def plain(what: str, build: Callable[[Problem], Run]) -> Contender:
    """Return the contender of an implementation without optimization."""
    return Contender(PLAIN, what, build)


def floor(steps: Callable[[Problem], Callable[[], Any]]) -> Contender:
    """Return the floor, from the function that makes its step."""
    return Contender(FLOOR, "lower bound", BuildFloor(steps))
