"""Any registered quantizer with the interface of ESPnet's codec quantizer."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.ops.bandwidth import (
    bandwidth_per_codebook,
    codebooks_for_bandwidth,
    total_bandwidth,
)
from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.quantizers.chain import beam_options
from sb_espnet_vq.quantizers.checks import other_quantizer
from sb_espnet_vq.quantizers.learning import FreezableModule
from sb_espnet_vq.quantizers.options import options_of
from sb_espnet_vq.registry import build
from sb_espnet_vq.toolkit_words import translate

__all__ = ["CodecQuantizer", "DropoutQuantizedResult", "QuantizedResult"]


class QuantizedResult(NamedTuple):
    """The output of the quantizer; unpacks as a tuple of four.

    Arguments
    ---------
    quantized : torch.Tensor
        (B, D, T).
    codes : torch.Tensor
        (n, B, T) int64, the codes of the n codebooks in use.
    bandwidth : torch.Tensor
        Scalar, the actual bitrate in kbit/s.
    penalty : torch.Tensor, optional
        Scalar, the quantizer's loss; 0 in eval.
    """

    quantized: Tensor
    codes: Tensor
    bandwidth: Tensor
    penalty: Tensor | None = None


class DropoutQuantizedResult(NamedTuple):
    """The output with quantizer dropout; unpacks as a tuple of five.

    Arguments
    ---------
    quantized, codes, bandwidth, penalty
        As in `QuantizedResult`.
    quantization_loss : torch.Tensor
        Scalar, the codebook loss: mean squared distance between codebook vectors and
        frames. The codebooks of ``rvq`` are moving averages, so it has no gradient. 0
        for quantizers without the option ``quantizer_dropout``, whose ``penalty``
        includes their codebook loss, if any.
    """

    quantized: Tensor
    codes: Tensor
    bandwidth: Tensor
    penalty: Tensor
    quantization_loss: Tensor


class CodecQuantizer(FreezableModule):
    """Any registered quantizer as ESPnet's ``ResidualVectorQuantizer``.

    ``dimension`` is the quantizer's ``dim`` and ``bins`` its ``codebook_size``. Other
    arguments are passed to quantizers that have such an option. With ``rvq`` the state
    dict has ESPnet's keys.

    Arguments
    ---------
    dimension : int
        Width of the frames.
    codebook_dim : int
        Width of the codebook vectors, as in ``rvq``: if it differs from ``dimension``,
        each level has learned input and output projections. (``random_projection``,
        which is not trained, keeps its own ``code_dim``.)
    n_q : int
        Number of codebooks, for quantizers that can have several.
    bins : int
        Codes in each codebook.
    decay : float
        Decay of the moving averages.
    kmeans_init : bool
        Initialize by k-means over the first training batch.
    kmeans_iters : int
        Iterations of k-means.
    threshold_ema_dead_code : int
        Replace codes with fewer frames per batch than this on average, and fewer than
        a tenth of the mean over codes. 0 disables it.
    quantizer_dropout : bool
        As in ``rvq``: in training, use only the first codebooks, a random number of
        them for each utterance. By default ``forward`` then returns five values, as
        ESPnet's class does.
    quantizer : str
        A registered name, or the full path of a class.
    quantizer_conf : Mapping, optional
        Options of the quantizer; they override the mapped ones.
    quantization_loss : bool, optional
        Whether ``forward`` returns five values, the last one being the quantization
        loss, as ESPnet's DAC expects. Default: ``quantizer_dropout``.

    Attributes
    ----------
    codebook_dim : int
        Width of the output of ``decode``, the same as ``dimension``. ESPnet's
        embeddings of codes use it as their size.
    beam : int
        Chains of codes that ``encode`` keeps, 1 at first; more for a residual
        quantizer only.

    Raises
    ------
    ConfigError
        If the name or an option is unknown or out of range.

    Example
    -------
    >>> import torch
    >>> q = CodecQuantizer(dimension=16, bins=256, quantizer="bsq")
    >>> result = q(torch.randn(2, 16, 100), sample_rate=50)
    >>> result.quantized.shape, result.codes.shape, result.bandwidth
    (torch.Size([2, 16, 100]), torch.Size([1, 2, 100]), tensor(0.4000))
    """

    vq: Quantizer

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
        quantizer: str = "rvq",
        quantizer_conf: Mapping[str, Any] | None = None,
        quantization_loss: bool | None = None,
    ):
        super().__init__()
        self.quantizer_dropout = quantizer_dropout
        self.quantization_loss = (
            quantizer_dropout if quantization_loss is None else quantization_loss
        )
        self.quantizer = quantizer
        conf = options_of("quantizer_conf", quantizer_conf)
        words = {
            "dimension": dimension,
            "codebook_dim": codebook_dim,
            "n_q": n_q,
            "bins": bins,
            "decay": decay,
            "kmeans_init": kmeans_init,
            "kmeans_iters": kmeans_iters,
            "threshold_ema_dead_code": threshold_ema_dead_code,
            "quantizer_dropout": quantizer_dropout,
        }
        options = translate(quantizer, words, conf)
        self.vq = build(quantizer, **options)
        # ESPnet's class returns the codes of dropped codebooks too.
        self.vq.marks_dropped = False
        self._has_dropout = "quantizer_dropout" in options
        self._drops = bool(options.get("quantizer_dropout", False))
        given = words | conf
        self.decay = given["decay"]
        self.kmeans_init = given["kmeans_init"]
        self.kmeans_iters = given["kmeans_iters"]
        self.threshold_ema_dead_code = given["threshold_ema_dead_code"]
        self.dimension = self.codebook_dim = self.vq.dim
        self.bins = self.vq.codebook_size
        self.n_q = self.vq.n_codebooks
        # Not an argument of `encode`, which ESPnet's generators call.
        self.beam = 1

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each codebook."""
        return self.vq.codebook_sizes

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
            Frame rate (Hz); the argument name is that of ESPnet.
        bandwidth : float, optional
            Maximum bitrate in kbit/s; None or 0 for all codebooks. In training with
            quantizer dropout it does not limit the number of codebooks.

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
        rate = total_bandwidth(self._rates(sample_rate), levels)
        used = self.n_q if self.training and self._drops else levels
        out = self.vq(self._frames_last(x), n_codebooks=used)
        # As in upstream, the penalty is zero in eval mode, where trainers log it.
        penalty = out.loss if self.training else out.loss.detach() * 0
        quantized = self._features_first(out.quantized, x)
        codes = out.codes.movedim(-1, 0)
        codes = codes if x.dim() == 3 else codes[..., 0]
        bandwidth_used = quantized.new_full((), rate)
        if not self.quantization_loss:
            return QuantizedResult(quantized, codes, bandwidth_used, penalty)
        other = torch.zeros_like(penalty)
        if self.training and self._has_dropout:
            # Equal to the commitment loss, without its weight and gradient.
            other = out.stats.get("commitment", other)
        return DropoutQuantizedResult(quantized, codes, bandwidth_used, penalty, other)

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
        ShapeError, ConfigError
            As in ``forward``.
        ValueError
            If a frame is not finite: it has no code, and ESPnet's tokenizers would
            turn -1 into a code of another codebook.
        """
        levels = self.get_num_quantizers_for_bandwidth(sample_rate, bandwidth)
        options = beam_options(self.vq, self.beam)
        codes = self.vq.encode(self._frames_last(x), n_codebooks=levels, **options)
        self._refuse_missing(codes)
        codes = codes.movedim(-1, 0)[st or 0 :]
        return codes if x.dim() == 3 else codes[..., 0]

    def decode(self, codes: Tensor) -> Tensor:
        """Return the values of codes.

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
            got = tuple(codes.shape) if isinstance(codes, Tensor) else type(codes)
            raise ShapeError(
                f"{type(self).__name__}: codes must be (n, B, T) or (n, B) integers, "
                f"got {got}"
            )
        value = self.vq.decode(codes.movedim(0, -1))
        return value.transpose(1, 2) if codes.dim() == 3 else value

    def get_num_quantizers_for_bandwidth(
        self, sample_rate: float, bandwidth: float | None = None
    ) -> int:
        """Return the number of codebooks for a bandwidth (kbit/s) and frame rate (Hz).

        Example
        -------
        >>> q = CodecQuantizer(dimension=8, codebook_dim=8, bins=1024)
        >>> q.get_num_quantizers_for_bandwidth(sample_rate=50, bandwidth=2)
        4
        """
        return codebooks_for_bandwidth(bandwidth, self._rates(sample_rate))

    def get_bandwidth_per_quantizer(self, sample_rate: float) -> float:
        """Return the rate (kbit/s) of the largest codebook at a frame rate (Hz).

        Example
        -------
        >>> q = CodecQuantizer(dimension=8, codebook_dim=8, bins=1024)
        >>> q.get_bandwidth_per_quantizer(sample_rate=50)
        0.5
        """
        return bandwidth_per_codebook(self.bins, sample_rate)

    def _refuse_missing(self, codes: Tensor) -> None:
        # While tracing, values cannot be read.
        if torch.compiler.is_compiling() or not bool((codes < 0).any()):
            return
        bad = (codes < 0).any(-1)
        row, frame = (int(each) for each in bad.nonzero()[0])
        raise ValueError(
            f"{type(self).__name__}: {int(bad.sum())} of {bad.numel()} frames are NaN "
            f"or infinite, the first of them frame {frame} of utterance {row}, and "
            "have no code; skip the recording, or replace such samples by zeros"
        )

    def _rates(self, sample_rate: float) -> list[float]:
        return [bandwidth_per_codebook(n, sample_rate) for n in self.codebook_sizes]

    def _frames_last(self, x: Tensor) -> Tensor:
        shape = tuple(x.shape) if isinstance(x, Tensor) else (type(x).__name__,)
        if len(shape) not in (2, 3) or shape[1] != self.dimension:
            raise ShapeError(
                f"{type(self).__name__}: x must be (B, {self.dimension}, T) or "
                f"(B, {self.dimension}), got {shape}"
            )
        return x.transpose(1, 2) if x.dim() == 3 else x[:, None]

    def _features_first(self, value: Tensor, x: Tensor) -> Tensor:
        return value.transpose(1, 2) if x.dim() == 3 else value[:, 0]

    def _load_from_state_dict(
        self, state_dict, prefix, metadata, strict, missing, unexpected, errors
    ):
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )
        errors += state_errors(self, state_dict, prefix, self.quantizer)


def state_errors(quantizer: nn.Module, state, prefix: str, name: str) -> list[str]:
    """Detect a checkpoint with the state of another quantizer.

    ESPnet loads with ``strict=False``: mismatched keys would be ignored silently.

    Arguments
    ---------
    quantizer : torch.nn.Module
        The quantizer of the codec.
    state : dict
        State of the checkpoint.
    prefix : str
        Prefix of the quantizer's keys in it.
    name : str
        Name of the quantizer, for the message.

    Returns
    -------
    list of str
        One error message, or none.
    """
    mine = [f"{prefix}{key}" for key in quantizer.state_dict()]
    if errors := other_quantizer(state, f"{prefix}vq.", mine, name):
        return errors
    given = {key for key in state if key.startswith(prefix)}
    if not given or not (missing := set(mine) - given):
        return []
    return [
        f"the checkpoint was written with another quantizer than {name!r}: it lacks "
        f"{min(missing)}"
    ]
