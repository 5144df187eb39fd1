"""Normalization of features to mean 0 and standard deviation 1 over a corpus."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


class CorpusNormalization(nn.Module):
    """Normalizes every feature to mean 0 and standard deviation 1 over a corpus.

    Arguments
    ---------
    width : int
        Number of features.

    Buffers
    -------
    mean, std : (width,); count : () int64, number of frames in these statistics.

    Example
    -------
    >>> normalize = CorpusNormalization(1)
    >>> normalize.gather([torch.tensor([[1.0]]), torch.tensor([[3.0]])])
    >>> normalize(torch.tensor([[1.0], [3.0]])).flatten()
    tensor([-1.,  1.])
    """

    mean: torch.Tensor
    std: torch.Tensor
    count: torch.Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def gather(self, parts: Iterable[torch.Tensor]) -> None:
        """Compute the statistics of a corpus.

        Arguments
        ---------
        parts : Iterable[torch.Tensor]
            (N, width) valid frames each.
        """
        count = 0
        total, squares = self.mean.new_zeros(2, len(self.mean), dtype=torch.float64)
        for part in parts:
            part = part.double()
            count += len(part)
            total += part.sum(0)
            squares += part.square().sum(0)
        if count:
            mean = total / count
            variance = squares / count - mean.square()
            self.mean.copy_(mean)
            self.std.copy_(variance.clamp(min=1e-10).sqrt())
        self.count.fill_(count)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize (..., width) features."""
        return (x - self.mean) / self.std
