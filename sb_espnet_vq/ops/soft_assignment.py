"""Soft assignments of frames to codebook vectors, summed over frames in tiles.

Neither the sum nor its gradient needs the full matrix of frames and vectors: the
backward pass recomputes the assignments tile by tile.
"""

from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.ops.nearest import tiles
from sb_espnet_vq.ops.scores import first_argmax, scores

# With fewer rows, accumulating the gradient of the codebook would dominate the time.
_FEWEST_ROWS = 64


class _Assign(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor, table: Tensor, weight: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        codes = x.new_empty(len(x), dtype=torch.int64)
        total = x.new_zeros(len(table))
        bias = _half_norms(table)
        for tile in _tiles(x, table):
            logits = scores(x[tile], table, bias)
            codes[tile] = first_argmax(logits)
            # Not in place: torch.compile of torch 2.11 would drop its gradient.
            total = total + weight[tile] @ logits.mul_(scale).softmax(1)
        return codes, total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        *tensors, ctx.scale = inputs
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(output[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor):
        x, table, weight = ctx.saved_tensors
        slope, bias = grads[1], _half_norms(table)
        factor = (weight * ctx.scale)[:, None]
        of_x, of_table, *_ = ctx.needs_input_grad
        grad_x = torch.empty_like(x) if of_x else None
        grad_table, grad_bias = torch.zeros_like(table), torch.zeros_like(bias)
        for tile in _tiles(x, table):
            probs = scores(x[tile], table, bias).mul_(ctx.scale).softmax(1)
            moved = (slope - (probs @ slope)[:, None]).mul_(probs)
            if grad_x is not None:
                grad_x[tile] = scores(moved, table.t()) * factor[tile]
            if of_table:
                grad_table += scores(moved.t(), (x[tile] * factor[tile]).t())
                grad_bias += factor[tile, 0] @ moved
        # The bias is minus half the squared norm.
        grad_table -= table * grad_bias[:, None]
        return grad_x, grad_table if of_table else None, None, None


def assign(
    x: Tensor, table: Tensor, weight: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return the nearest codes, and the sum of soft assignments over frames.

    The soft assignment of a frame is softmax(-||x - c||^2 / temperature). Memory
    besides results and gradients is one tile of scores.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) finite float.
    table : torch.Tensor
        (V, D) codebook vectors in the dtype of ``x``.
    weight : torch.Tensor
        (N,) weight of each frame in the sum; it gets no gradient.
    temperature : float
        Positive.

    Returns
    -------
    codes : torch.Tensor
        (N,) int64, the nearest codes, equal to those of `nearest_code`.
    total : torch.Tensor
        (V,) with gradient to ``x`` and ``table``.

    Example
    -------
    >>> x, table = torch.tensor([[1.0], [-1.0]]), torch.tensor([[9.0], [-9.0]])
    >>> assign(x, table, torch.ones(2), temperature=1.0)
    (tensor([0, 1]), tensor([1., 1.]))
    """
    # ||x||^2 is the same for all vectors and affects neither argmax nor softmax.
    scale = 2 / temperature
    if torch.jit.is_tracing():
        # torch.jit.trace cannot save a custom autograd function.
        logits = scores(x, table, _half_norms(table))
        return logits.argmax(1), weight @ (logits * scale).softmax(1)
    return _Assign.apply(x, table, weight, scale)


def _half_norms(table: Tensor) -> Tensor:
    return table.square().sum(1) * -0.5


def _tiles(x: Tensor, table: Tensor) -> list[slice]:
    return tiles(x, len(table), _FEWEST_ROWS)
