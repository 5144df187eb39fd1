"""Scores of frames against codebook vectors, and the best code of each frame."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sb_espnet_vq.ops.devices import eager_on_cpu

# Block size of `first_argmax`, and the number of blocks from which it pays off.
_BLOCK = 64
_MIN_BLOCKS = 8
# oneDNN rounds the scores of the last vectors differently unless their number is a
# multiple of this (on processors with AVX2 but without AVX-512).
_ENTRIES = 16


class _OneDNNScores(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, table: Tensor, bias: Tensor | None) -> Tensor:
        # Equal vectors must have equal scores, so that argmax returns the first.
        size = len(table)
        if more := -size % _ENTRIES:
            table = F.pad(table, (0, 0, 0, more))
            bias = bias if bias is None else F.pad(bias, (0, more))
        # Inductor calls this for a linear layer; there is no public function.
        out = torch.ops.mkldnn._linear_pointwise(x, table, bias, "none", [], "")
        return out[:, :size].contiguous() if more else out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, table, _ = inputs
        ctx.save_for_backward(x, table)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor):
        (grad,) = grads
        x, table = ctx.saved_tensors
        of_x, of_table, of_bias = ctx.needs_input_grad
        return (
            scores(grad, table.t()) if of_x else None,
            scores(grad.t(), x.t()) if of_table else None,
            grad.sum(0) if of_bias else None,
        )


def scores(x: Tensor, table: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x . vector + bias`` for every row of ``x`` and every codebook vector.

    On a CPU, float32 products use oneDNN. MKL, torch's default, uses narrow vector
    instructions on processors not made by Intel, which takes more than twice as long,
    and copies the bias into the result first.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) float.
    table : torch.Tensor
        (V, D) codebook vectors in the dtype of ``x``.
    bias : torch.Tensor, optional
        (V,) in the dtype of ``x``.

    Returns
    -------
    torch.Tensor
        (N, V), with gradients to all three arguments.

    Example
    -------
    >>> scores(torch.ones(1, 2), torch.eye(2), torch.tensor([0.0, 0.5]))
    tensor([[1.0000, 1.5000]])
    """
    if _onednn_serves(x):
        return _OneDNNScores.apply(x, table, bias)
    return F.linear(x, table, bias)


def _onednn_serves(x: Tensor) -> bool:
    return (
        eager_on_cpu(x)
        and x.dtype == torch.float32
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def first_argmax(scores: Tensor) -> Tensor:
    """Return the index of the largest score of each row; ties go to the first.

    On a CPU it takes two passes: the maximum of each block of scores, then the index
    within the best block. A maximum without its index is ten times as fast.

    Arguments
    ---------
    scores : torch.Tensor
        (N, V) float.

    Returns
    -------
    torch.Tensor
        (N,) int64.

    Example
    -------
    >>> first_argmax(torch.tensor([[1.0, 3.0, 3.0]]))
    tensor([1])
    """
    if not eager_on_cpu(scores):
        return scores.argmax(1)
    rows, width = scores.shape
    blocks, rest = divmod(width, _BLOCK)
    if rest or blocks < _MIN_BLOCKS:
        return scores.argmax(1)
    grid = scores.view(rows, blocks, _BLOCK)
    block = grid.amax(2).argmax(1)
    row = torch.arange(rows) * blocks + block
    within = grid.view(-1, _BLOCK)[row].argmax(1)
    return block * _BLOCK + within
