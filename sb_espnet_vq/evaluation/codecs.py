"""Bitrate of a codec and usage of its codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Cost(NamedTuple):
    """Bitrate and usage of codes.

    Arguments
    ---------
    bitrate : float
        In kbit/s, with log2(size) bits for every code of a codebook of that size.
    entropy_bitrate : float
        In kbit/s, with an ideal entropy coder that knows the frequency of each code.
    perplexity : float
        exp of the entropy of code usage, mean over codebooks.
    used_codes : float
        Number of codes used at least once, mean over codebooks.
    """

    bitrate: float
    entropy_bitrate: float
    perplexity: float
    used_codes: float


def cost(codes: Tensor, codebook_sizes: Sequence[int], seconds: float) -> Cost:
    """Compute the bitrate and usage of codes.

    Arguments
    ---------
    codes : torch.Tensor
        (N, K) int64, codes of all frames.
    codebook_sizes : sequence of int
        Number of codes in each codebook, at least K of them.
    seconds : float
        Duration of the encoded audio.

    Returns
    -------
    Cost

    Example
    -------
    >>> cost(torch.tensor([[0], [0], [1], [1]]), codebook_sizes=[4], seconds=0.004)
    Cost(bitrate=2.0, entropy_bitrate=1.0, perplexity=2.0, used_codes=2.0)
    """
    frames, codebooks = codes.shape
    # Not bincount: codebooks may be too large for an array of counts.
    counts = [column.unique(return_counts=True)[1].double() for column in codes.T]
    bits = [
        float(torch.special.entr(each / frames).sum()) / math.log(2) for each in counts
    ]
    per_second = frames / seconds / 1000
    return Cost(
        sum(map(math.log2, codebook_sizes[:codebooks])) * per_second,
        sum(bits) * per_second,
        sum(2**each for each in bits) / codebooks,
        sum(len(each) for each in counts) / codebooks,
    )
