"""Two quantizers side by side, with the interface of HiFi-Codec's in ESPnet."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer, DropoutQuantizedResult
from sb_espnet_vq.quantizers.learning import FreezableModule


class GroupQuantizer(FreezableModule):
    """Two codec quantizers, one for each half of the channels of a frame.

    Yang et al. 2023, "HiFi-Codec", https://arxiv.org/abs/2305.02765, section 3.2. The
    state dict has the keys of ESPnet's class. Codes alternate between the groups, first
    those of the first level, so that the first codes of a frame are its coarse ones.

    Arguments
    ---------
    quantizer0, quantizer1 : CodecQuantizer
        With the same numbers of codebooks.

    Example
    -------
    >>> groups = GroupQuantizer(*(CodecQuantizer(8, 8, 4, 16) for _ in range(2)))
    >>> groups(torch.randn(2, 16, 100), 50).codes.shape
    torch.Size([8, 2, 100])
    >>> groups.decode(groups.encode(torch.randn(2, 16, 100), 50)).shape
    torch.Size([2, 16, 100])
    """

    def __init__(self, quantizer0: CodecQuantizer, quantizer1: CodecQuantizer):
        super().__init__()
        self.quantizer0, self.quantizer1 = quantizer0, quantizer1
        self.dimension = self.codebook_dim = 2 * quantizer0.dimension
        self.n_q, self.bins = 2 * quantizer0.n_q, quantizer0.bins

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each codebook."""
        each = zip(
            self.quantizer0.codebook_sizes, self.quantizer1.codebook_sizes, strict=True
        )
        return tuple(size for pair in each for size in pair)

    def forward(
        self, x: Tensor, sample_rate: float, bandwidth: float | None = None
    ) -> DropoutQuantizedResult:
        """Quantize a batch; in training, learn from it.

        Arguments
        ---------
        x : torch.Tensor
            (B, dimension, T) float.
        sample_rate : float
            Frame rate (Hz); the argument name is that of ESPnet.
        bandwidth : float, optional
            kbit/s of one group; None or 0 for all codebooks.

        Returns
        -------
        DropoutQuantizedResult
            ``quantization_loss`` is ESPnet's: mean absolute and mean squared difference
            of the frames to their fixed values, summed over groups.

        Raises
        ------
        ShapeError, ConfigError
            As in `CodecQuantizer.forward`.
        """
        parts = self._halves(x)
        both = [
            quantizer(part, sample_rate, bandwidth)
            for quantizer, part in zip(self._groups(), parts, strict=True)
        ]
        distances = [
            _distance(part, each.quantized.detach())
            for part, each in zip(parts, both, strict=True)
        ]
        return DropoutQuantizedResult(
            torch.cat([each.quantized for each in both], 1),
            _alternate([each.codes for each in both]),
            both[0].bandwidth + both[1].bandwidth,
            both[0].penalty + both[1].penalty,
            distances[0] + distances[1],
        )

    def encode(
        self,
        x: Tensor,
        sample_rate: float,
        bandwidth: float | None = None,
        st: int | None = None,
    ) -> Tensor:
        """Return the codes of a batch.

        Arguments
        ---------
        x, sample_rate, bandwidth
            As in ``forward``.
        st : int, optional
            Omit the codes of the first ``st`` codebooks.

        Returns
        -------
        torch.Tensor
            (n - st, B, T) int64, not negative.

        Raises
        ------
        ShapeError, ConfigError, ValueError
            As in `CodecQuantizer.encode`.
        """
        parts = zip(self._groups(), self._halves(x), strict=True)
        codes = [each.encode(part, sample_rate, bandwidth) for each, part in parts]
        return _alternate(codes)[st or 0 :]

    def decode(self, codes: Tensor) -> Tensor:
        """Return the values of codes.

        Arguments
        ---------
        codes : torch.Tensor
            (n, B, T) integers of the first n codebooks; n is even.

        Returns
        -------
        torch.Tensor
            (B, dimension, T) float32.

        Raises
        ------
        ShapeError
            If n is odd: the second group would have fewer codes than the first.
        ValueError
            As in `Quantizer.decode`.
        """
        if codes.shape[0] % 2:
            raise ShapeError(
                f"{type(self).__name__}: codes must be (n, B, T) with an even n, one "
                f"half for each group, got {tuple(codes.shape)}"
            )
        values = [
            each.decode(codes[group::2]) for group, each in enumerate(self._groups())
        ]
        return torch.cat(values, 1)

    def _groups(self) -> tuple[CodecQuantizer, CodecQuantizer]:
        return self.quantizer0, self.quantizer1

    def _halves(self, x: Tensor) -> tuple[Tensor, ...]:
        if x.dim() != 3 or x.shape[1] != self.dimension:
            raise ShapeError(
                f"{type(self).__name__}: x must be (B, {self.dimension}, T), got "
                f"{tuple(x.shape)}"
            )
        return x.chunk(2, 1)


def _distance(x: Tensor, value: Tensor) -> Tensor:
    return F.l1_loss(x, value) + F.mse_loss(x, value)


def _alternate(codes: list[Tensor]) -> Tensor:
    """Interleave the codes (n, B, T) of the groups: (2 * n, B, T)."""
    return torch.stack(codes, 1).flatten(0, 1)
