"""Codebook vectors of codes, with gradient to the codebook."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sb_espnet_vq.ops.devices import eager_on_cpu
from sb_espnet_vq.ops.ema import code_sums
from sb_espnet_vq.ops.nearest import tile_rows


class _LookUpChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx, codebook, codes):
        batch, keys = codes.shape[0], codebook.shape[0]
        flat = codes.flatten(1)
        ctx.save_for_backward(flat)
        ctx.keys = keys
        # The output is channels-first. A lookup of whole vectors and a transposition
        # would move each value twice more.
        table = codebook.t().contiguous().expand(batch, -1, -1)
        index = flat.clamp(min=0)[:, None].expand(-1, codebook.shape[1], -1)
        found = table.gather(2, index)
        if not (eager_on_cpu(flat) and bool((flat >= 0).all())):
            found = torch.where((flat >= 0)[:, None], found, torch.nan)
        return found.view(batch, codebook.shape[1], *codes.shape[1:])

    @staticmethod
    def backward(ctx, *grads):
        (flat,) = ctx.saved_tensors
        grad = grads[0].flatten(2)
        sums = grad.new_zeros(ctx.keys, grad.shape[1])
        # A few items at a time, so that the transposed copies stay in the cache.
        items = tile_rows(grad, grad.shape[1] * grad.shape[2])
        for start in range(0, grad.shape[0], items):
            codes = flat[start : start + items].reshape(-1)
            rows = grad[start : start + items].transpose(1, 2).flatten(0, 1)
            sums += code_sums(rows, codes.clamp(min=0), codes >= 0, ctx.keys)[1]
        return sums, None


def look_up_channels(codebook: Tensor, codes: Tensor) -> Tensor:
    """Return the codebook vectors of ``codes`` like `look_up`, but channels-first.

    Arguments
    ---------
    codebook : torch.Tensor
        (K, D).
    codes : torch.Tensor
        (B, ...) int64 in [-1, K).

    Returns
    -------
    torch.Tensor
        (B, D, ...), with gradient to ``codebook``; NaN for -1.

    Example
    -------
    >>> look_up_channels(torch.tensor([[5.0, 6.0]]), torch.tensor([[0, -1]]))
    tensor([[[5., nan],
             [6., nan]]])
    """
    if torch.jit.is_tracing():
        # A custom autograd function cannot be saved.
        return look_up(codebook, codes).movedim(-1, 1).contiguous()
    return _LookUpChannels.apply(codebook, codes)


def look_up(codebook: Tensor, codes: Tensor) -> Tensor:
    """Return the codebook vectors of ``codes``, with gradient; NaN for -1.

    Arguments
    ---------
    codebook : torch.Tensor
        (K, D).
    codes : torch.Tensor
        (...) int64 in [-1, K).

    Returns
    -------
    torch.Tensor
        (..., D).

    Example
    -------
    >>> look_up(torch.tensor([[5.0], [6.0]]), torch.tensor([1, -1]))
    tensor([[6.],
            [nan]])
    """
    found = F.embedding(codes.clamp(min=0), codebook)
    return torch.where((codes >= 0)[..., None], found, torch.nan)
