"""Codebooks that minimize the squared error of given codes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Assigned(NamedTuple):
    """Frames and their codes.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) finite float.
    codes : torch.Tensor
        (N, K) int64, -1 where a code contributes nothing.
    weight : float
        Of the squared errors of these frames.
    """

    x: Tensor
    codes: Tensor
    weight: float = 1.0


def refit_tables(
    chunks: Sequence[Assigned],
    tables: Sequence[Tensor],
    ridge: float = 1.0,
    iterations: int = 100,
    tolerance: float = 1e-4,
) -> list[Tensor]:
    """Return codebooks with which the sums over codebooks are closest to the frames.

    The minimum over all vectors at once, as in additive quantization (Babenko and
    Lempitsky 2014, "Additive quantization for extreme vector compression"): a
    least-squares problem whose design matrix has a row for each frame, with a 1 at each
    of its codes. Its normal equations are solved by preconditioned conjugate
    gradients, which need only sums over frames, a chunk at a time, and no matrix of
    pairs of codes. The squared error never increases: if rounding prevents a decrease,
    the tables are returned unchanged. Vectors of unused codes do not change.

    Arguments
    ---------
    chunks : sequence of Assigned
        Read once in each iteration.
    tables : sequence of torch.Tensor
        For each codebook (V_k, D) float, the current vectors.
    ridge : float
        Weight of the squared change of each vector, in frames: those of codes with few
        frames change less. At least 0.
    iterations : int
        At most so many steps of conjugate gradients.
    tolerance : float
        Stops where the gradient has decreased by this factor in all dimensions.

    Returns
    -------
    list of torch.Tensor
        In the shapes, dtypes and on the devices of ``tables``.

    Example
    -------
    >>> x, codes = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[0], [1], [1]])
    >>> refit_tables([Assigned(x, codes)], [torch.zeros(3, 1)], ridge=0.0)
    [tensor([[1.],
            [3.],
            [0.]])]
    """
    # A last row of zeros for missing codes.
    start = F.pad(torch.cat([*tables]).double(), (0, 0, 0, 1))
    sizes = [len(table) for table in tables]
    rows = [_rows(chunk.codes, sizes) for chunk in chunks]
    gradient, counts = torch.zeros_like(start), torch.zeros_like(start[:, 0])
    for chunk, index in zip(chunks, rows, strict=True):
        residual = (chunk.x.double() - _sums(start, index)) * chunk.weight
        _add_rows_(gradient, index, residual)
        _count_(counts, index, chunk.weight)
    weights = [chunk.weight for chunk in chunks]

    def product(p: Tensor) -> Tensor:
        out = p * ridge
        for index, weight in zip(rows, weights, strict=True):
            _add_rows_(out, index, _sums(p, index) * weight)
        out[-1] = 0
        return out

    scale = (counts + ridge).clamp(min=torch.finfo(counts.dtype).tiny)[:, None]
    gradient[-1] = 0
    change = _solve(product, gradient, scale, iterations, tolerance)
    moved = (start + change)[:-1].split(sizes)
    new = [a.to(b) for a, b in zip(moved, tables, strict=True)]
    better = squared_error(chunks, new) < squared_error(chunks, tables)
    return new if better else list(tables)


def squared_error(chunks: Sequence[Assigned], tables: Sequence[Tensor]) -> float:
    """Return the weighted sum of squared errors of frames and their codes' values.

    Arguments
    ---------
    chunks, tables
        As in `refit_tables`.

    Returns
    -------
    float

    Example
    -------
    >>> chunk = Assigned(torch.tensor([[3.0]]), torch.tensor([[0]]), weight=2.0)
    >>> squared_error([chunk], [torch.tensor([[1.0]])])
    8.0
    """
    table = F.pad(torch.cat([*tables]).double(), (0, 0, 0, 1))
    sizes = [len(each) for each in tables]
    total = 0.0
    for x, codes, weight in chunks:
        error = x.double() - _sums(table, _rows(codes, sizes))
        total += weight * float(error.square().sum())
    return total


def _solve(product, gradient, scale, iterations: int, tolerance: float) -> Tensor:
    """Solve product(change) = gradient, for each dimension by itself."""
    change, residual = torch.zeros_like(gradient), gradient.clone()
    direction = residual / scale
    size = (residual * direction).sum(0)
    enough = size * tolerance**2
    for _ in range(iterations):
        if bool((size <= enough).all()):
            break
        moved = product(direction)
        # Where a dimension is solved, both are 0.
        step = _ratio(size, (direction * moved).sum(0))
        change += step * direction
        residual -= step * moved
        scaled = residual / scale
        before, size = size, (residual * scaled).sum(0)
        direction = scaled + _ratio(size, before) * direction
    return change


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / b.clamp(min=torch.finfo(b.dtype).tiny), 0)


def _rows(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the rows (N, K) of codes in the concatenated tables."""
    first = torch.tensor([0, *sizes], device=codes.device).cumsum(0)
    used = first[: codes.shape[1]]
    return torch.where(codes >= 0, codes + used, first[-1])


def _sums(table: Tensor, index: Tensor) -> Tensor:
    """Return for each frame the sum of the rows of its codes (N, D)."""
    return F.embedding_bag(index, table, mode="sum")


def _add_rows_(out: Tensor, index: Tensor, x: Tensor) -> None:
    for column in _columns(index):
        out.index_add_(0, column, x)


def _count_(counts: Tensor, index: Tensor, weight: float) -> None:
    for column in _columns(index):
        counts += torch.bincount(column, minlength=len(counts)) * weight


def _columns(index: Tensor) -> Iterator[Tensor]:
    return iter(index.unbind(1))
