"""Conversions of tensors that the benchmark cases share."""

from torch import Tensor


def learnable(x: Tensor) -> Tensor:
    """Return a leaf tensor with the same values that requires a gradient."""
    return x.detach().requires_grad_()


def rows(x: Tensor) -> Tensor:
    """Reshape (..., D) to (N, D), detached."""
    return x.detach().reshape(-1, x.shape[-1])
