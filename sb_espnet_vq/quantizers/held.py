"""Codebook vectors that stay as they are while the others learn."""

import torch
from torch import Tensor


def without_held(table: Tensor, held: Tensor | None) -> Tensor:
    """Return a table that passes no gradient to the vectors that are held.

    Arguments
    ---------
    table : torch.Tensor
        (..., V, D) codebook vectors.
    held : torch.Tensor, optional
        (..., V) bool, True for vectors to keep.

    Returns
    -------
    torch.Tensor
        ``table`` in value.

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
