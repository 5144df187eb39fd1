"""Drop-in for `espnet2.gan_codec.shared.quantizer.residual_vq`."""

from typing import NamedTuple

from torch import Tensor, nn

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.gan_codec.bandwidth import (
    bandwidth_per_codebook,
    codebooks_for_bandwidth,
)
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import Quantized
from sb_espnet_vq.quantizers.rvq import RVQ

__all__ = ["QuantizedResult", "ResidualVectorQuantizer"]


class QuantizedResult(NamedTuple):
    """What the quantizer returns; unpacks as a tuple of four.

    Arguments
    ---------
    quantized : torch.Tensor
        (B, D, T).
    codes : torch.Tensor
        (n_q, B, T) int64.
    bandwidth : torch.Tensor
        Scalar, the true rate in kbit/s.
    penalty : torch.Tensor, optional
        Scalar, the commitment loss; 0 in eval.
    """

    quantized: Tensor
    codes: Tensor
    bandwidth: Tensor
    penalty: Tensor | None = None


class DropoutQuantizedResult(NamedTuple):
    """The same with quantizer dropout; unpacks as a tuple of five.

    Arguments
    ---------
    quantized, codes, bandwidth, penalty
        As in `QuantizedResult`.
    quantization_loss : torch.Tensor
        Scalar, distance of the entries to their fixed inputs. Entries are moving
        averages, so it carries no gradient.
    """

    quantized: Tensor
    codes: Tensor
    bandwidth: Tensor
    penalty: Tensor
    quantization_loss: Tensor


class _AllCodesRVQ(RVQ):
    """RVQ that returns the codes of dropped levels too, as ESPnet's does."""

    def _quantize(
        self,
        frames: Frames,
        levels: int | None = None,
        utterances: int | None = None,
    ) -> Quantized:
        found = self.run_levels(frames, levels, utterances)
        terms = {"commitment": found.commitment}
        return Quantized(found.value, found.codes, terms, found.counts)


class ResidualVectorQuantizer(nn.Module):
    """Residual vector quantizer with the interface of ESPnet's codecs.

    Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312, algorithm 1.

    Arguments
    ---------
    dimension : int
        Width of the frames.
    codebook_dim : int
        Width of the codebooks; learnt projections lead in and out of each level
        where it differs from ``dimension``.
    n_q : int
        Number of codebooks.
    bins : int
        Codes in each.
    decay : float
        Of the moving averages.
    kmeans_init : bool
        Start from k-means over the first training batch.
    kmeans_iters : int
        Rounds of it.
    threshold_ema_dead_code : int
        Revive codes that serve fewer frames a batch than this on average, and
        fewer than a tenth of the mean code; 0 never.
    quantizer_dropout : bool
        In training, keep a random number of codebooks for each utterance.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Example
    -------
    >>> import torch
    >>> rvq = ResidualVectorQuantizer(dimension=16, codebook_dim=16, n_q=8, bins=32)
    >>> result = rvq(torch.randn(2, 16, 100), sample_rate=50, bandwidth=1.0)
    >>> result.quantized.shape, result.codes.shape, result.bandwidth
    (torch.Size([2, 16, 100]), torch.Size([4, 2, 100]), tensor(1.))
    """

    def __init__(
        self,
        dimension: int = 256,
        codebook_dim: int = 512,
        n_q: int = 8,
        bins: int = 1024,
        decay: float = 0.99,
        kmeans_init: bool = True,
        kmeans_iters: int = 50,
        threshold_ema_dead_code: int = 2,
        quantizer_dropout: bool = False,
    ):
        super().__init__()
        self.n_q = n_q
        self.dimension = dimension
        self.codebook_dim = codebook_dim
        self.bins = bins
        self.decay = decay
        self.kmeans_init = kmeans_init
        self.kmeans_iters = kmeans_iters
        self.threshold_ema_dead_code = threshold_ema_dead_code
        self.quantizer_dropout = quantizer_dropout
        self.vq = _AllCodesRVQ(
            dimension,
            bins,
            n_q,
            quantizer_dropout=quantizer_dropout,
            code_dim=codebook_dim,
            decay=decay,
            kmeans_init=kmeans_init,
            kmeans_iters=kmeans_iters,
            threshold_ema_dead_code=threshold_ema_dead_code,
        )

    def forward(
        self, x: Tensor, sample_rate: float, bandwidth: float | None = None
    ) -> QuantizedResult | DropoutQuantizedResult:
        """Quantize a batch; in training, learn from it.

        Arguments
        ---------
        x : torch.Tensor
            (B, dimension, T) float, or (B, dimension) for one frame each; the
            result then has no T axis either.
        sample_rate : float
            Frames a second (Hz): ESPnet's word for the frame rate.
        bandwidth : float, optional
            kbit/s to stay within; None or 0 for all codebooks. In training with
            dropout all codebooks are used.

        Returns
        -------
        QuantizedResult or DropoutQuantizedResult

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        ConfigError
            If the bandwidth is not a number.
        """
        levels = self.get_num_quantizers_for_bandwidth(sample_rate, bandwidth)
        rate = levels * self.get_bandwidth_per_quantizer(sample_rate)
        frames = self._frames_last(x)
        dropping = self.training and self.quantizer_dropout
        out, _ = self.vq._forward(
            frames,
            None,
            None,
            levels=self.n_q if dropping else levels,
            utterances=len(x) if dropping else None,
        )
        # Upstream's penalty is zero in eval, and trainers log it.
        penalty = out.loss if self.training else out.loss.detach() * 0
        quantized = self._features_first(out.quantized, x)
        codes = out.codes.movedim(-1, 0)
        codes = codes if x.dim() == 3 else codes[..., 0]
        bandwidth_used = quantized.new_full((), rate)
        if not self.quantizer_dropout:
            return QuantizedResult(quantized, codes, bandwidth_used, penalty)
        # Same distance, taken at the other end.
        return DropoutQuantizedResult(
            quantized, codes, bandwidth_used, penalty, penalty.detach()
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
            Leave out the codes of the first ``st`` codebooks.

        Returns
        -------
        torch.Tensor
            (n_q - st, B, T) int64.

        Raises
        ------
        ShapeError, ConfigError
            As in ``forward``.
        """
        levels = self.get_num_quantizers_for_bandwidth(sample_rate, bandwidth)
        codes = self.vq.encode(self._frames_last(x), n_codebooks=levels)
        codes = codes.movedim(-1, 0)[st or 0 :]
        return codes if x.dim() == 3 else codes[..., 0]

    def decode(self, codes: Tensor) -> Tensor:
        """Return the values that codes stand for.

        Arguments
        ---------
        codes : torch.Tensor
            (n, B, T) or (n, B) integers, those of the first n <= n_q codebooks.

        Returns
        -------
        torch.Tensor
            (B, dimension, T) or (B, dimension) float32.

        Raises
        ------
        ShapeError, ValueError
            As in `Quantizer.decode`.
        """
        if not isinstance(codes, Tensor) or codes.dim() not in (2, 3):
            came = tuple(codes.shape) if isinstance(codes, Tensor) else type(codes)
            raise ShapeError(
                "ResidualVectorQuantizer: codes must be (n, B, T) or (n, B) integers, "
                f"got {came}"
            )
        value = self.vq.decode(codes.movedim(0, -1))
        return value.transpose(1, 2) if codes.dim() == 3 else value

    def get_num_quantizers_for_bandwidth(
        self, sample_rate: float, bandwidth: float | None = None
    ) -> int:
        """Return how many codebooks fit ``bandwidth`` (kbit/s) at a frame rate (Hz).

        Example
        -------
        >>> rvq = ResidualVectorQuantizer(dimension=8, codebook_dim=8, bins=1024)
        >>> rvq.get_num_quantizers_for_bandwidth(sample_rate=50, bandwidth=2)
        4
        """
        per_codebook = self.get_bandwidth_per_quantizer(sample_rate)
        return codebooks_for_bandwidth(bandwidth, per_codebook, self.n_q)

    def get_bandwidth_per_quantizer(self, sample_rate: float) -> float:
        """Return the rate (kbit/s) of one codebook at a frame rate (Hz).

        Example
        -------
        >>> rvq = ResidualVectorQuantizer(dimension=8, codebook_dim=8, bins=1024)
        >>> rvq.get_bandwidth_per_quantizer(sample_rate=50)
        0.5
        """
        return bandwidth_per_codebook(self.bins, sample_rate)

    def _frames_last(self, x: Tensor) -> Tensor:
        shape = tuple(x.shape) if isinstance(x, Tensor) else (type(x).__name__,)
        if len(shape) not in (2, 3) or shape[1] != self.dimension:
            raise ShapeError(
                f"ResidualVectorQuantizer: x must be (B, {self.dimension}, T) or "
                f"(B, {self.dimension}), got {shape}"
            )
        return x.transpose(1, 2) if x.dim() == 3 else x[:, None]

    def _features_first(self, value: Tensor, x: Tensor) -> Tensor:
        return value.transpose(1, 2) if x.dim() == 3 else value[:, 0]
