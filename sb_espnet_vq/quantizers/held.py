"""Codebook vectors that are excluded from updates."""

import torch
from torch import Tensor


def without_held(table: Tensor, held: Tensor | None) -> Tensor:
    """Return the table with its held vectors detached.

    Arguments
    ---------
    table : torch.Tensor
        (..., V, D) codebook vectors.
    held : torch.Tensor, optional
        (..., V) bool, True for vectors to keep.

    Returns
    -------
    torch.Tensor
        Equal to ``table``.

    Example
    -------
    >>> table = torch.ones(2, 3, requires_grad=True)
    >>> without_held(table, torch.tensor([True, False])).sum().backward()
    >>> table.grad
    tensor([[0., 0., 0.],
            [1., 1., 1.]])
    """
    if held is None:
        return table
    return torch.where(held[..., None], table.detach(), table)
