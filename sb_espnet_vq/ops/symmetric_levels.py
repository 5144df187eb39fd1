"""Finite scalar quantization with levels that are symmetric around 0.

Parker et al. 2024, https://arxiv.org/abs/2411.19842, section 3.2, on channels that are
clipped to [-1, 1]. Layout and numbering are those of `finite_levels`: channels are the
first axis, and L levels are the whole numbers from -(L // 2) to (L - 1) // 2.
"""

from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.ops.estimators import straight_through


def symmetric_levels(x: Tensor, n_levels: Tensor, dtype: torch.dtype) -> Tensor:
    """Round each channel to the nearest of its levels, with straight-through gradient.

    Values beyond the outermost levels, -1 and 1, get the outermost level and no
    gradient.

    Arguments
    ---------
    x : torch.Tensor
        (C, N) float.
    n_levels : torch.Tensor
        (C,) int64, number of levels of each channel, at least 2.
    dtype : torch.dtype
        Of the result; the levels are computed in that of ``x``.

    Returns
    -------
    torch.Tensor
        (C, N) whole numbers.

    Example
    -------
    >>> x = torch.tensor([[-9.0, -0.2, 0.2, 9.0]])
    >>> symmetric_levels(x, torch.tensor([4]), torch.float32)
    tensor([[-2., -1.,  0.,  1.]])
    """
    steps = (n_levels - 1).to(x.dtype)[:, None]
    middle = (n_levels // 2).to(x.dtype)[:, None]
    if torch.jit.is_tracing():
        # torch.jit.trace cannot save a custom autograd function.
        place = steps * (x.clamp(-1, 1) + 1) / 2
        levels = (place.detach() + 0.5).floor() - middle
        return straight_through(place, levels.to(dtype))
    return _SymmetricLevels.apply(x, steps, middle).to(dtype)


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
    """Return the values in [-1, 1] that levels stand for.

    Arguments
    ---------
    levels : torch.Tensor
        (C, N) float.
    n_levels : torch.Tensor
        (C,) int64.

    Returns
    -------
    torch.Tensor
        (C, N).

    Example
    -------
    >>> symmetric_values(torch.tensor([[-2.0, -1.0, 0.0, 1.0]]), torch.tensor([4]))
    tensor([[-1.0000, -0.3333,  0.3333,  1.0000]])
    """
    half = (n_levels - 1).to(levels.dtype)[:, None] / 2
    middle = (n_levels // 2).to(levels.dtype)[:, None]
    return (levels + (middle - half)) / half
