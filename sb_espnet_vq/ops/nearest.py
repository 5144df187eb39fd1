"""Nearest codebook vectors, by matrix products and an argmax over tiles."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sb_espnet_vq.ops.devices import tracing
from sb_espnet_vq.ops.scores import first_argmax, scores

# Scores in a tile. On a CPU a tile should fit into the last-level cache, so that the
# argmax reads it from there; on a GPU it should be large enough to use all cores.
_TILE_SCORES = {"cpu": 2**20, "default": 2**26}


def tile_rows(x: Tensor, width: int) -> int:
    """Return the number of rows of a tile with ``width`` scores in a row.

    Arguments
    ---------
    x : torch.Tensor
        Its device determines the size of a tile.
    width : int
        Scores in a row.

    Returns
    -------
    int
        At least 1.
    """
    scores = _TILE_SCORES.get(x.device.type, _TILE_SCORES["default"])
    return max(1, scores // max(1, width))


def tiles(x: Tensor, width: int, fewest: int = 1) -> list[slice]:
    """Divide the rows of ``x`` into tiles; a single tile while tracing.

    Arguments
    ---------
    x : torch.Tensor
        (N, ...); its device determines the size of a tile.
    width : int
        Scores in a row.
    fewest : int
        Smallest number of rows of a tile.

    Returns
    -------
    list of slice

    Example
    -------
    >>> tiles(torch.zeros(5, 1), 2**20, fewest=3)
    [slice(0, 3, None), slice(3, 6, None)]
    """
    if tracing():
        return [slice(None)]
    rows = max(tile_rows(x, width), fewest)
    return [slice(start, start + rows) for start in range(0, len(x), rows)]


def nearest_code(x: Tensor, codebook: Tensor) -> Tensor:
    """Return for each row the code at the smallest Euclidean distance.

    The distance ||x||^2 - 2 x.c + ||c||^2 is smallest where x.c - ||c||^2 / 2 is
    largest, since ||x||^2 is the same for all codebook vectors. Ties go to the lowest
    index. Memory besides the result is one tile of scores; while tracing, the scores of
    all rows.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) finite float.
    codebook : torch.Tensor
        (V, D) in the dtype of ``x``.

    Returns
    -------
    torch.Tensor
        (N,) int64 in [0, V).

    Example
    -------
    >>> codebook = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> nearest_code(torch.tensor([[0.9, 0.8], [0.1, 0.3]]), codebook)
    tensor([1, 0])
    """
    x, codebook = x.detach(), codebook.detach()
    bias = codebook.square().sum(1) * -0.5
    return best_score(x, codebook, bias)


def most_similar_code(x: Tensor, codebook: Tensor) -> Tensor:
    """Return for each row the code at the smallest angle.

    Only the codebook is normalized, since the norm of a row does not change which of
    its cosines is largest. Ties and memory are as in `nearest_code`.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) finite float.
    codebook : torch.Tensor
        (V, D) in the dtype of ``x``.

    Returns
    -------
    torch.Tensor
        (N,) int64 in [0, V).

    Example
    -------
    >>> codebook = torch.tensor([[9.0, 1.0], [0.1, 0.1]])
    >>> most_similar_code(torch.tensor([[5.0, 4.0]]), codebook)
    tensor([1])
    """
    return best_score(x.detach(), F.normalize(codebook.detach(), dim=1))


def best_score(x: Tensor, table: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return for each row the code with the largest ``x . vector + bias``.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) finite float; no gradient is computed.
    table : torch.Tensor
        (V, D) codebook vectors in the dtype of ``x``.
    bias : torch.Tensor, optional
        (V,) in the dtype of ``x``.

    Returns
    -------
    torch.Tensor
        (N,) int64 in [0, V).

    Example
    -------
    >>> best_score(torch.ones(1, 2), torch.eye(2), torch.tensor([0.0, 0.5]))
    tensor([1])
    """
    if tracing():
        return first_argmax(scores(x, table, bias))
    codes = x.new_empty(len(x), dtype=torch.int64)
    rows = tile_rows(x, len(table))
    for start in range(0, len(x), rows):
        tile = slice(start, start + rows)
        codes[tile] = first_argmax(scores(x[tile], table, bias))
    return codes


def nearest_allowed_code(
    x: Tensor, codebook: Tensor, first: Tensor, last: Tensor, width: int, shared: int
) -> Tensor:
    """Return the nearest of the codes that each utterance may use.

    Utterance b may use the codes first[b] .. last[b] - 1 and the last ``shared`` codes
    of the codebook. Only their vectors are gathered and scored, in tiles over
    utterances and frames.

    Arguments
    ---------
    x : torch.Tensor
        (B, M, D) finite float, M frames of each utterance, in any memory layout.
    codebook : torch.Tensor
        (V, D) in the dtype of ``x``.
    first, last : torch.Tensor
        (B,) int64, range of codes of each utterance, ``last`` exclusive.
    width : int
        The largest last - first.
    shared : int
        Number of codes at the end of the codebook that all utterances may use.

    Returns
    -------
    torch.Tensor
        (B, M) int64.

    Example
    -------
    >>> codebook = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> first, last = torch.tensor([0, 1]), torch.tensor([1, 3])
    >>> nearest_allowed_code(torch.full((2, 1, 1), 9.0), codebook, first, last, 2, 0)
    tensor([[0],
            [2]])
    """
    x, codebook = x.detach(), codebook.detach()
    candidates, allowed = _candidates(first, last, width, len(codebook), shared)
    if tracing():
        return candidates.gather(1, _best_candidate(x, codebook[candidates], allowed))
    codes = x.new_empty(x.shape[:2], dtype=torch.int64)
    items = tile_rows(x, candidates.shape[1] * x.shape[2])
    for item in range(0, x.shape[0], items):
        some = slice(item, item + items)
        own, usable = candidates[some], allowed[some]
        vectors = codebook[own]
        rows = tile_rows(x, usable.numel())
        for start in range(0, x.shape[1], rows):
            tile = some, slice(start, start + rows)
            best = _best_candidate(x[tile], vectors, usable)
            codes[tile] = own.gather(1, best)
    return codes


def _candidates(first: Tensor, last: Tensor, width: int, size: int, shared: int):
    """Return codes (B, width + shared), and which of them each utterance may use."""
    own = first[:, None] + torch.arange(width, device=first.device)
    common = torch.arange(size - shared, size, device=first.device)
    common = common.expand(first.shape[0], -1)
    allowed = torch.cat([own < last[:, None], torch.ones_like(common).bool()], 1)
    return torch.cat([own.clamp(max=size - 1), common], 1), allowed


def _best_candidate(x: Tensor, vectors: Tensor, allowed: Tensor) -> Tensor:
    """Return the index (B, M) of the nearest of an utterance's vectors (B, W, D)."""
    bias = vectors.square().sum(-1) * -0.5
    bias = bias.masked_fill(~allowed, -torch.inf)[..., None]
    # Frames are the last axis: on a CPU a maximum over the axis before the last is
    # faster, and channels-first input needs no copy.
    return torch.baddbmm(bias, vectors, x.transpose(1, 2)).max(1).indices
