"""Rows of a padded batch in groups of equal length, and back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sb_espnet_vq.errors import ShapeError


def row_lengths(lengths: object, rows: int, longest: int, unit: str) -> list[int]:
    """Return the valid length of each row.

    Arguments
    ---------
    lengths : torch.Tensor, optional
        (rows,) integers; None if all rows have full length.
    rows, longest : int
        Size of the batch.
    unit : str
        What is counted, for errors.

    Returns
    -------
    list of int

    Raises
    ------
    ShapeError
        If they are not integers in [0, longest], one for each row.

    Example
    -------
    >>> row_lengths(torch.tensor([3, 5]), 2, 5, "samples")
    [3, 5]
    """
    if lengths is None:
        return [longest] * rows
    wanted = f"lengths must be ({rows},) integers, the {unit} of each row"
    if not isinstance(lengths, Tensor) or lengths.shape != (rows,):
        got = lengths.shape if isinstance(lengths, Tensor) else type(lengths).__name__
        raise ShapeError(f"{wanted}; got {got}")
    if lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ShapeError(
            f"{wanted}; got {lengths.dtype}. Multiply SpeechBrain's relative lengths "
            "by the size of the batch and round them"
        )
    values = lengths.tolist()
    if values and not 0 <= min(values) <= max(values) <= longest:
        raise ShapeError(f"{wanted}, in [0, {longest}]; got {values}")
    return values


def by_length(
    batch: Tensor, lengths: list[int], call: Callable[[Tensor], Tensor]
) -> list[Tensor | None]:
    """Call a function on the rows of each length, without padding.

    Arguments
    ---------
    batch : torch.Tensor
        (B, L, ...).
    lengths : list of int
        Valid length of each row.
    call : callable
        Maps (b, length, ...) to (b, ...).

    Returns
    -------
    list
        The result for each row; None for rows of length 0.

    Example
    -------
    >>> by_length(torch.ones(3, 4), [2, 0, 4], lambda rows: rows.sum(1))
    [tensor(2.), None, tensor(4.)]
    """
    results: list[Tensor | None] = [None] * len(lengths)
    for length in sorted(set(lengths) - {0}):
        rows = [row for row, each in enumerate(lengths) if each == length]
        for row, result in zip(rows, call(batch[rows, :length]), strict=True):
            results[row] = result
    return results


def pad(rows: list[Tensor], value: float) -> tuple[Tensor, Tensor]:
    """Return rows (T, ...) as a padded batch, and their lengths.

    Arguments
    ---------
    rows : list of torch.Tensor
        At least one.
    value : float
        Of the padding.

    Returns
    -------
    batch : torch.Tensor
        (B, T, ...).
    lengths : torch.Tensor
        (B,) int64.

    Example
    -------
    >>> pad([torch.ones(1), torch.ones(2)], -1)
    (tensor([[ 1., -1.],
            [ 1.,  1.]]), tensor([1, 2]))
    """
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    padded = torch.nn.utils.rnn.pad_sequence(rows, True, value)
    return padded, lengths
