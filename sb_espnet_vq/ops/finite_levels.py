"""Finite scalar quantization: each channel rounded to one of a few levels.

Mentzer et al. 2023, https://arxiv.org/abs/2309.15505, section 3.1 and appendix A.1.
The level of a channel with L levels is an integer from -(L // 2) to (L - 1) // 2.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.ops.devices import tracing
from sb_espnet_vq.ops.estimators import straight_through

# The bound lies this much beyond the outermost levels, so that rounding reaches them
# with a gradient that is not 0.
_BEYOND = 1e-3
# The largest codes that a float holds exactly.
_EXACT = {torch.float32: 2**24, torch.float64: 2**53}
# Vector instructions need a long last axis, but there are few channels. Up to this many
# frames are therefore computed as one row.
_FRAMES_IN_ROW = 64


def finite_levels(x: Tensor, n_levels: Tensor, dtype: torch.dtype) -> Tensor:
    """Round each channel to one of its levels, with straight-through gradient.

    The level is tanh(x + shift) * half - offset, rounded. Levels of an even number lie
    half a step below those of an odd one (the offset); the shift keeps 0 at 0. The
    gradient is that without rounding.

    Arguments
    ---------
    x : torch.Tensor
        (N, C) float.
    n_levels : torch.Tensor
        (C,) int64, number of levels of each channel, at least 3.
    dtype : torch.dtype
        Of the result; the levels are computed in that of ``x``.

    Returns
    -------
    torch.Tensor
        (N, C) integers in ``dtype``.

    Example
    -------
    >>> x = torch.tensor([[-9.0], [0.0], [9.0]])
    >>> finite_levels(x, torch.tensor([4]), torch.float32).t()
    tensor([[-2., 0., 1.]])
    """
    half, offset, shift = _bounds(x, n_levels)
    if tracing():
        # torch.jit.trace cannot save a custom autograd function, and torch.compile of
        # torch 2.11 loses the gradient of one that works in place.
        bounded = (x + shift).tanh() * half - offset
        return straight_through(bounded, bounded.detach().round().to(dtype))
    rows, constants = wide_rows(x, half, offset, shift)
    return _FiniteLevels.apply(rows, *constants).to(dtype).view_as(x)


def _bounds(x: Tensor, n_levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    half = (n_levels - 1).to(x.dtype) * (1 + _BEYOND) / 2
    offset = ((n_levels + 1) % 2).to(x.dtype) / 2
    return half, offset, (offset / half).atanh()


def wide_rows(x: Tensor, *constants: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Arrange several frames as one row, and repeat constants of channels for it.

    Arguments
    ---------
    x : torch.Tensor
        (N, C).
    *constants : torch.Tensor
        (C,) each.

    Returns
    -------
    rows : torch.Tensor
        (N / M, M * C), a view or a copy; M is 1 while tracing, since graphs must not
        depend on the number of frames.
    repeated : list of torch.Tensor
        (M * C,) each.

    Example
    -------
    >>> rows, (repeated,) = wide_rows(torch.zeros(32, 3), torch.arange(3))
    >>> rows.shape, repeated.shape
    (torch.Size([1, 96]), torch.Size([96]))
    """
    frames = 1 if tracing() else math.gcd(x.shape[0], _FRAMES_IN_ROW)
    if frames == 1 or x.shape[0] == 0:
        return x, list(constants)
    rows = x.reshape(-1, frames * x.shape[1])
    return rows, [constant.repeat(frames) for constant in constants]


class _FiniteLevels(torch.autograd.Function):
    # New tensors take longer than the arithmetic: it is done in place where it can be.
    @staticmethod
    def forward(x: Tensor, half: Tensor, offset: Tensor, shift: Tensor) -> Tensor:
        return (x + shift).tanh_().mul_(half).sub_(offset).round_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, half, _, shift = inputs
        ctx.save_for_backward(x, half, shift)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = grads
        x, half, shift = ctx.saved_tensors
        # Computing tanh again is cheaper than keeping it.
        squashed = (x + shift).tanh()
        slope = torch.ops.aten.tanh_backward(grad * half, squashed)
        return slope, None, None, None


def level_values(levels: Tensor, n_levels: Tensor) -> Tensor:
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
    >>> level_values(levels, torch.tensor([4])).t()
    tensor([[-1.0000, -0.5000, 0.0000, 0.5000]])
    """
    rows, (steps,) = wide_rows(levels, (n_levels // 2).to(levels.dtype))
    return (rows / steps).view_as(levels)


def level_codes(levels: Tensor, n_levels: Tensor, size: int) -> Tensor:
    """Return the code of each frame, the first channel least significant.

    Arguments
    ---------
    levels : torch.Tensor
        (N, C) float.
    n_levels : torch.Tensor
        (C,) int64.
    size : int
        Number of codes, the product of ``n_levels``.

    Returns
    -------
    torch.Tensor
        (N,) int64.

    Example
    -------
    >>> level_codes(torch.tensor([[1.0, 0.0]]), torch.tensor([4, 3]), 12)
    tensor([7])
    """
    # The products of the levels of all channels before each. ONNX has no cumprod.
    channel = torch.arange(len(n_levels), device=n_levels.device)
    places = torch.where(channel < channel[:, None], n_levels, 1).prod(1)
    # The code of level 0 in all channels.
    zero = (n_levels // 2 * places).sum()
    if size > _EXACT[levels.dtype]:
        return (levels.long() * places).sum(1) + zero
    # Exact, since all products and sums are integers that the dtype holds.
    return (levels @ places.to(levels.dtype)).long() + zero


def levels_of_codes(codes: Tensor, n_levels: Sequence[int]) -> Tensor:
    """Return the level of each channel; the inverse of `level_codes`.

    Arguments
    ---------
    codes : torch.Tensor
        (N,) int64, at least 0.
    n_levels : sequence of int
        C numbers of levels.

    Returns
    -------
    torch.Tensor
        (N, C) int64.

    Example
    -------
    >>> levels_of_codes(torch.tensor([7]), (4, 3))
    tensor([[1, 0]])
    """
    levels = []
    for number in n_levels:
        levels.append(codes % number - number // 2)
        codes = codes // number
    return torch.stack(levels, 1)
