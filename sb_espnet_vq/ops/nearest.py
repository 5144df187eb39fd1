"""The nearest entry of a codebook, by products and an argmax over tiles."""

import torch
from torch import Tensor

from sb_espnet_vq.ops.devices import tracing
from sb_espnet_vq.ops.scores import first_argmax, scores

# Scores held at once. On a CPU a tile should stay in the last-level cache while
# the argmax reads it; on a GPU it should be large enough to fill the device.
_TILE_SCORES = {"cpu": 2**20, "default": 2**26}


def tile_rows(x: Tensor, width: int) -> int:
    """Return how many rows of ``width`` scores to hold at once on x's device.

    Arguments
    ---------
    x : torch.Tensor
        Tensor whose device counts.
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
    """Cut the rows of ``x`` into tiles; a single tile while tracing.

    Arguments
    ---------
    x : torch.Tensor
        (N, ...); its device determines the size of a tile.
    width : int
        Scores in a row.
    fewest : int
        Minimum number of rows of a tile.

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
    """Find for each row the codebook entry at the smallest Euclidean distance.

    The distance ||x||^2 - 2 x.c + ||c||^2 is smallest where x.c - ||c||^2 / 2 is
    largest, since ||x||^2 is the same for all entries. Among bitwise-equal scores
    the lowest index wins. Memory beside the result is one tile of scores; while
    tracing, one product over all rows.

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


def best_score(x: Tensor, table: Tensor, bias: Tensor | None = None) -> Tensor:
    """Find for each row the entry with the largest ``x . entry + bias``.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) finite float, no gradient is kept.
    table : torch.Tensor
        (V, D) in the dtype of ``x``.
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
    """Find the nearest among the keys that each row's utterance may use.

    Utterance b may use keys first[b] .. last[b] - 1 and the ``shared`` keys at
    the end of the codebook. Only those are gathered and scored, in tiles over
    utterances and frames.

    Arguments
    ---------
    x : torch.Tensor
        (B, M, D) finite float, M rows of each utterance, in any memory layout.
    codebook : torch.Tensor
        (V, D) in the dtype of ``x``.
    first, last : torch.Tensor
        (B,) int64, each utterance's own keys, ``last`` exclusive.
    width : int
        The largest last - first.
    shared : int
        How many keys at the end of the codebook serve everyone.

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
    keys, allowed = _keys_of(first, last, width, len(codebook), shared)
    if tracing():
        return keys.gather(1, _best_key(x, codebook[keys], allowed))
    codes = x.new_empty(x.shape[:2], dtype=torch.int64)
    items = tile_rows(x, keys.shape[1] * x.shape[2])
    for item in range(0, x.shape[0], items):
        some = slice(item, item + items)
        entries, open_ = codebook[keys[some]], allowed[some]
        rows = tile_rows(x, open_.numel())
        for start in range(0, x.shape[1], rows):
            tile = some, slice(start, start + rows)
            codes[tile] = keys[some].gather(1, _best_key(x[tile], entries, open_))
    return codes


def _keys_of(first: Tensor, last: Tensor, width: int, size: int, shared: int):
    """Return keys (B, width + shared), and which of them each utterance may use."""
    own = first[:, None] + torch.arange(width, device=first.device)
    common = torch.arange(size - shared, size, device=first.device)
    common = common.expand(first.shape[0], -1)
    allowed = torch.cat([own < last[:, None], torch.ones_like(common).bool()], 1)
    return torch.cat([own.clamp(max=size - 1), common], 1), allowed


def _best_key(x: Tensor, entries: Tensor, allowed: Tensor) -> Tensor:
    """Return the nearest (B, M) of an utterance's entries (B, W, D)."""
    bias = entries.square().sum(-1) * -0.5
    bias = bias.masked_fill(~allowed, -torch.inf)[..., None]
    # Frames along the last axis: on a CPU the maximum over the axis before it is the
    # faster one, and vectors that lie channels first need no copy.
    return torch.baddbmm(bias, entries, x.transpose(1, 2)).max(1).indices
