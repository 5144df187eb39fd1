"""Tensors as the cases want them."""

from torch import Tensor


def learnable(x: Tensor) -> Tensor:
    """Return the same numbers as a leaf that takes a gradient."""
    return x.detach().requires_grad_()


def rows(x: Tensor) -> Tensor:
    """Return (..., D) as (N, D)."""
    return x.detach().reshape(-1, x.shape[-1])
