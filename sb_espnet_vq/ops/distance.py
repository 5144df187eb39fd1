"""Distances between frames and their codebook vectors."""

from typing import Any

import torch
from torch import Tensor


class _MeanSquare(torch.autograd.Function):
    @staticmethod
    def forward(away: Tensor) -> Tensor:
        # A norm would not store the squares, but torch.compile (torch 2.12) computes a
        # wrong norm for D = 1.
        return away.square().mean(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (away,) = ctx.saved_tensors
        return away * (grads[0] * (2 / away.shape[-1])).unsqueeze(-1)


def mean_square(away: Tensor) -> Tensor:
    """Return the mean square over the last axis.

    Its backward pass reads ``away`` once; that of separate operations reads it five
    times.

    Arguments
    ---------
    away : torch.Tensor
        (..., D) frames minus their codebook vectors.

    Returns
    -------
    torch.Tensor
        (...).

    Example
    -------
    >>> mean_square(torch.tensor([[2.0, 0.0]]))
    tensor([2.])
    """
    if torch.jit.is_tracing():
        # torch.jit.trace cannot save a custom autograd function.
        return away.square().mean(-1)
    return _MeanSquare.apply(away)
