"""Finite scalar quantization with levels that are symmetric around 0.

Parker et al. 2024, https://arxiv.org/abs/2411.19842, section 3.2, on channels that are
clipped to [-1, 1]. The numbering is that of `finite_levels`: L levels are the integers
from -(L // 2) to (L - 1) // 2.
"""

from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.ops.devices import tracing
from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.finite_levels import wide_rows


def symmetric_levels(x: Tensor, n_levels: Tensor, dtype: torch.dtype) -> Tensor:
    """Round each channel to the nearest of its levels, with straight-through gradient.

    Values beyond the outermost levels, -1 and 1, get the outermost level and no
    gradient.

    Arguments
    ---------
    x : torch.Tensor
        (N, C) float.
    n_levels : torch.Tensor
        (C,) int64, number of levels of each channel, at least 2.
    dtype : torch.dtype
        Of the result; the levels are computed in that of ``x``.

    Returns
    -------
    torch.Tensor
        (N, C) integers in ``dtype``.

    Example
    -------
    >>> x = torch.tensor([[-9.0], [-0.2], [0.2], [9.0]])
    >>> symmetric_levels(x, torch.tensor([4]), torch.float32).t()
    tensor([[-2., -1.,  0.,  1.]])
    """
    steps, middle = (n_levels - 1).to(x.dtype), (n_levels // 2).to(x.dtype)
    if tracing():
        # torch.jit.trace cannot save a custom autograd function, and torch.compile of
        # torch 2.11 loses the gradient of one that works in place.
        place = steps * (x.clamp(-1, 1) + 1) / 2
        levels = (place.detach() + 0.5).floor() - middle
        return straight_through(place, levels.to(dtype))
    rows, constants = wide_rows(x, steps, middle)
    return _SymmetricLevels.apply(rows, *constants).to(dtype).view_as(x)


class _SymmetricLevels(torch.autograd.Function):
    # In place, as in `finite_levels`.
    @staticmethod
    def forward(x: Tensor, steps: Tensor, middle: Tensor) -> Tensor:
        place = x.clamp(-1, 1).add_(1).mul_(steps).div_(2)
        return place.add_(0.5).floor_().sub_(middle)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, steps, _ = inputs
        ctx.save_for_backward(x, steps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        x, steps = ctx.saved_tensors
        return torch.where(x.abs() <= 1, grad * (steps / 2), 0), None, None


def symmetric_values(levels: Tensor, n_levels: Tensor) -> Tensor:
    """Return the values in [-1, 1] of levels.

    Arguments
    ---------
    levels : torch.Tensor
        (N, C) float.
    n_levels : torch.Tensor
        (C,) int64.

    Returns
    -------
    torch.Tensor
        (N, C).

    Example
    -------
    >>> levels = torch.tensor([[-2.0], [-1.0], [0.0], [1.0]])
    >>> symmetric_values(levels, torch.tensor([4])).t()
    tensor([[-1.0000, -0.3333,  0.3333,  1.0000]])
    """
    dtype = levels.dtype
    half, middle = (n_levels - 1).to(dtype) / 2, (n_levels // 2).to(dtype)
    rows, (half, shift) = wide_rows(levels, half, middle - half)
    return ((rows + shift) / half).view_as(levels)
