"""Frames of tokens: embeddings that are learned, or the values of the quantizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.ssl.normalization import CorpusNormalization


class TokenFrames(nn.Module):
    """Maps codes to frames."""

    def gather(self, codes: Iterable[Tensor]) -> None:
        """Collect statistics of codes (N, K) of the training set, if any are needed."""

    @abstractmethod
    def forward(self, codes: Tensor) -> Tensor:
        """Return frames (B, T, width) of codes (B, T, K), -1 at frames without one."""


class LearnedEmbeddings(TokenFrames):
    """The sum of an embedding for each codebook, as in DASB.

    Mousavi et al. 2024, https://arxiv.org/abs/2406.14294. Codes that are not in the
    training set keep their random embeddings.

    Arguments
    ---------
    sizes : sequence of int
        Number of codes of each codebook.
    width : int
        Size of the embeddings.

    Example
    -------
    >>> LearnedEmbeddings([16, 8], 4)(torch.tensor([[[15, 7], [0, -1]]])).shape
    torch.Size([1, 2, 4])
    """

    first: Tensor

    def __init__(self, sizes: Sequence[int], width: int):
        super().__init__()
        # Each codebook has a row more, for a frame without a code (-1).
        rows = torch.tensor([size + 1 for size in sizes])
        self.table = nn.Embedding(int(rows.sum()), width)
        self.register_buffer("first", rows.cumsum(0) - rows, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the sums of embeddings."""
        return self.table(codes + 1 + self.first).sum(2)


class CodebookValues(TokenFrames):
    """The values of the quantizer's codes, which are not trained, and a linear layer.

    Codes with similar values have similar frames, so that it needs less speech than
    `LearnedEmbeddings`, in particular with large codebooks.

    Arguments
    ---------
    quantizer : Quantizer
        Decodes the codes.
    width : int
        Size of a frame.

    Example
    -------
    >>> from sb_espnet_vq.quantizers import FSQ
    >>> CodebookValues(FSQ(3, 64), 4)(torch.tensor([[[63], [-1]]])).shape
    torch.Size([1, 2, 4])
    """

    def __init__(self, quantizer: Quantizer, width: int):
        super().__init__()
        self.quantizer = quantizer
        # It may differ from quantizer.dim, as in wav2vec 2.0.
        size = quantizer.decode(torch.full((1, 1), -1)).shape[1]
        self.normalize = CorpusNormalization(size)
        self.linear = nn.Linear(size, width)

    @torch.no_grad()
    def gather(self, codes: Iterable[Tensor]) -> None:
        """Compute the statistics that the values are normalized with."""
        self.normalize.gather(map(self.quantizer.decode, codes))

    def forward(self, codes: Tensor) -> Tensor:
        """Return the normalized values behind the linear layer."""
        with torch.no_grad():
            values = self.quantizer.decode(codes)
        return self.linear(self.normalize(values))
