"""Beam search for the chain of codes whose vectors add up to a frame."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sb_espnet_vq.ops.nearest import tiles
from sb_espnet_vq.ops.scores import scores

# Scores in a block of `_largest`, which searches the maxima of blocks first.
_BLOCK = 16


def best_chain(
    x: Tensor, tables: Sequence[Tensor], beam: int, greedy: Tensor
) -> Tensor:
    """Return for each frame the best chain of codes that a beam search finds.

    The value of a chain is the sum of the vectors of its codes; its error is the
    squared distance of the value to the frame. After each level the ``beam`` chains
    with the smallest errors are kept, as Babenko and Lempitsky 2014 ("Additive
    quantization for extreme vector compression") do for codebooks in any order. The
    greedy chain competes at the end, so that no error is above its error. Among equal
    errors the lexicographically lowest chain of the beam is returned.

    Errors of partial chains are computed from their residuals, in the precision of
    ``x``; those of complete chains from the value that ``decode`` adds up. Memory
    besides the result is one tile: for each of its frames ``beam`` residuals, and the
    scores of ``beam`` chains with all codes of a level.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) finite float; no gradient is computed.
    tables : sequence of torch.Tensor
        For each of the K levels (V_k, D) in the dtype of ``x``: what each code adds to
        the value.
    beam : int
        Number of chains to keep, at least 1. With the number of all chains, the
        product of all V_k, the result is optimal.
    greedy : torch.Tensor
        (N, K) int64, chains to compare with.

    Returns
    -------
    torch.Tensor
        (N, K) int64.

    Example
    -------
    >>> tables = [torch.tensor([[0.0], [4.0]]), torch.tensor([[0.0], [3.0]])]
    >>> best_chain(torch.tensor([[2.8]]), tables, 2, greedy=torch.tensor([[1, 0]]))
    tensor([[0, 1]])
    """
    x = x.detach()
    width = beam * (max(map(len, tables)) + 2 * x.shape[1])
    chosen = [
        _least_error(x[tile], tables, _search(x[tile], tables, beam), greedy[tile])
        for tile in tiles(x, width)
    ]
    return torch.cat(chosen) if chosen else greedy


def _search(x: Tensor, tables: Sequence[Tensor], beam: int) -> Tensor:
    """Return the chains (N, H, K) that are left after the last level."""
    rows, dim = x.shape
    residual = x[:, None]
    chains = torch.zeros(rows, 1, 0, dtype=torch.int64, device=x.device)
    for table in tables:
        count, size = residual.shape[1], len(table)
        flat = residual.reshape(-1, dim)
        # Minus half the squared error of each chain with each code.
        score = scores(flat, table, table.square().sum(1) * -0.5)
        score -= flat.square().sum(1, keepdim=True) * 0.5
        kept = min(beam, count * size)
        # In ascending order, chains stay in lexicographic order, so that the first of
        # equal scores is that of the lowest chain.
        best = _largest(score.view(rows, count * size), kept).sort(1).values
        parent, code = best // size, best % size
        chains = torch.cat([_take(chains, parent), code[..., None]], 2)
        residual = _take(residual, parent) - F.embedding(code, table)
    return chains


def _largest(score: Tensor, count: int) -> Tensor:
    """Return the indices (N, count) of the largest scores (N, M); overwrites them.

    Ties go to the first. `torch.topk` leaves ties undefined, and takes several times
    as long on a CPU, where it copies all scores with their indices.
    """
    rows = torch.arange(len(score), device=score.device)
    more = -score.shape[1] % _BLOCK
    padded = F.pad(score, (0, more), value=-torch.inf) if more else score
    grid = padded.view(len(score), -1, _BLOCK)
    maxima, found = grid.amax(2), []
    for _ in range(count):
        block = maxima.argmax(1)
        inside = grid[rows, block]
        place = inside.argmax(1)
        found.append(block * _BLOCK + place)
        inside = inside.scatter(1, place[:, None], -torch.inf)
        grid[rows, block] = inside
        maxima[rows, block] = inside.amax(1)
    return torch.stack(found, 1)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Return rows (N, M, D) of ``x`` (N, H, D) by an index (N, M)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))


def _least_error(
    x: Tensor, tables: Sequence[Tensor], chains: Tensor, greedy: Tensor
) -> Tensor:
    """Return the best (N, K) of the chains (N, H, K) and the greedy ones (N, K)."""
    chains = torch.cat([chains, greedy[:, None]], 1)
    value = F.embedding(chains[..., 0], tables[0])
    for level, table in enumerate(tables[1:], start=1):
        value = value + F.embedding(chains[..., level], table)
    error = (x[:, None] - value).square().sum(2)
    return _take(chains, error.argmin(1, keepdim=True))[:, 0]
