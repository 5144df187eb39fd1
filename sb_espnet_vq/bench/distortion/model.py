"""What `sbvq distortion` needs from a quantizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor


class Sizes(NamedTuple):
    """Width of the frames, codes in each codebook, number of codebooks."""

    dim: int
    codebook_size: int
    n_codebooks: int


class Model(ABC):
    """A quantizer to train and to measure, of frames (N, dim)."""

    #: Codes in each codebook.
    sizes: tuple[int, ...]
    #: Whether `encode` takes other beams than 1.
    takes_beam = False

    @abstractmethod
    def train(self, batches: Iterable[Tensor]) -> None:
        """Learn from batches of frames (M, dim)."""

    def refitted(self, x: Tensor, rounds: int, beam: int) -> Model | None:
        """Return a copy refitted to frames (N, dim) by least squares, if possible."""
        return None

    @abstractmethod
    def encode(self, x: Tensor, beam: int) -> Tensor:
        """Return codes (N, K) int64 of frames."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Return values (N, dim) of codes."""
