"""Operations of lower bounds that several cases share."""

import torch
from torch import Tensor

from sb_espnet_vq.ops.nearest import tile_rows
from sb_espnet_vq.ops.scores import first_argmax, scores


def products_with_argmax(x: Tensor, table: Tensor) -> Tensor:
    """Return the codes (N,) with the largest product of x (N, D) and table (V, D).

    The nearest code also needs the norms of the codebook vectors, so this costs less.
    The fastest known product and argmax are used, so that the lower bound is tight.
    """
    codes = x.new_empty(len(x), dtype=torch.int64)
    rows = tile_rows(x, len(table))
    for start in range(0, len(x), rows):
        tile = slice(start, start + rows)
        codes[tile] = first_argmax(scores(x[tile], table))
    return codes
