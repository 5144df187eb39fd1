"""Sums, gathers and broadcasts over the ranks of the default process group.

Without a process group every function is the identity (or a gather of one row), so
callers need no special case. None of them synchronizes with the device.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of ranks; 1 without a process group.

    Example
    -------
    >>> world_size()
    1
    """
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


def sum_over_ranks(x: Tensor) -> Tensor:
    """Return the sum of ``x`` over all ranks, without gradient.

    Arguments
    ---------
    x : torch.Tensor
        Any shape, the same on every rank. It is not modified.

    Returns
    -------
    torch.Tensor
        Shape and dtype of ``x``.

    Example
    -------
    >>> sum_over_ranks(torch.ones(2))
    tensor([1., 1.])
    """
    if world_size() == 1:
        return x
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return sum_over_ranks(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        # Each rank computes the same function of the sum, so the incoming
        # gradient is the same everywhere and its sum needs no collective. The
        # factor undoes the average that DDP takes over ranks afterwards.
        return grad * world_size()


def sum_over_ranks_with_grad(x: Tensor) -> Tensor:
    """Return the sum of ``x`` over all ranks, with gradient to this rank's part.

    Every rank must compute the same function of the result. The gradients, averaged by
    DDP, then equal those of one process with all parts.

    Arguments
    ---------
    x : torch.Tensor
        Any shape, the same on every rank.

    Returns
    -------
    torch.Tensor
        Shape and dtype of ``x``.
    """
    return x if world_size() == 1 else _SumOverRanks.apply(x)


def gather_from_ranks(x: Tensor) -> Tensor:
    """Stack ``x`` of all ranks.

    Arguments
    ---------
    x : torch.Tensor
        Any shape, the same on every rank.

    Returns
    -------
    torch.Tensor
        Shape (ranks, *x.shape).

    Example
    -------
    >>> gather_from_ranks(torch.tensor(3))
    tensor([3])
    """
    if world_size() == 1:
        return x[None]
    # A sum, since torch.compile cannot include a gather of scalars in one graph.
    rows = x.new_zeros(world_size(), *x.shape)
    rows[dist.get_rank()] = x
    return sum_over_ranks(rows)


def copy_from_first_rank_(x: Tensor) -> Tensor:
    """Overwrite ``x`` with the values of rank 0 and return it.

    Arguments
    ---------
    x : torch.Tensor
        Any shape, the same on every rank.

    Returns
    -------
    torch.Tensor
        ``x`` itself.
    """
    if world_size() > 1:
        # A sum with zeros, since torch.compile cannot include a broadcast in its graph.
        mine = x if dist.get_rank() == 0 else torch.zeros_like(x)
        x.copy_(sum_over_ranks(mine))
    return x
