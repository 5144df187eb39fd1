"""`warm_start`: continuous frames first, their quantized values later."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.combinators.composed import Composed, build_part, run_part
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import Quantized
from sb_espnet_vq.quantizers.options import integer_from, positive_int


class WarmStart(Composed):
    """Passes continuous frames on at first, and quantized ones from a step on.

    Training the autoencoder before its quantizer is switched on helps reconstruction
    (https://arxiv.org/abs/2605.06870). Until step ``quantize_from_step`` the value in
    training is the frames themselves. The codebooks already learn, and the loss terms
    count. In eval mode, and if frozen, frames are always quantized.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Codes in each codebook, for quantizers that choose no other number.
    n_codebooks : int, optional
        Codes of a frame, if the quantizer can have several.
    quantizer : str
        A registered name, or the full path of a class.
    quantizer_conf : Mapping, optional
        Options of the quantizer.
    quantize_from_step : int
        The first step whose values are quantized. Steps are training forwards, counted
        from 0, unless ``set_step`` sets the step before each of them: a loop that
        accumulates gradients has several forwards in a step. 0: always quantize.
    quantizer_dropout : bool
        In training, keep for each utterance only a random number of codebooks. Dropped
        codes are returned as -1, also where the value is the frames.
    frozen : bool
        No updates in training; gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is unknown or out of range.

    Buffers
    -------
    step : () int64, number of training forwards with a valid frame; saved, so that a
        resumed training continues where it was.

    Example
    -------
    >>> q = WarmStart(dim=8, codebook_size=16, quantizer="vq", quantize_from_step=1)
    >>> x = torch.randn(2, 100, 8)
    >>> [torch.equal(q(x).quantized, x) for _ in range(2)]
    [True, False]
    """

    # In training the values are those of the codes from the first step on.
    contract_options = {"n_codebooks": 2, "quantize_from_step": 0}

    step: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        n_codebooks: int | None = None,
        quantizer: str = "rvq",
        quantizer_conf: Mapping[str, Any] | None = None,
        quantize_from_step: int = 1000,
        quantizer_dropout: bool = False,
        frozen: bool = False,
    ):
        first = integer_from(0, "quantize_from_step", quantize_from_step)
        words = {
            "dim": positive_int("dim", dim),
            "codebook_size": positive_int("codebook_size", codebook_size),
            "n_codebooks": n_codebooks,
        }
        part = build_part(quantizer, words, quantizer_conf)
        super().__init__(dim, [part], [range(part.n_codebooks)], quantizer_dropout)
        self.quantize_from_step = first
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.freeze_if(frozen)

    def _quantize(self, frames: Frames) -> Quantized:
        frames = self._with_kept(frames)
        result = run_part(self._part(), frames)
        joined = self._joined(result.value, {0: result})
        if not self.learning:
            return joined
        # Compared on the device: reading the step would synchronize it.
        quantizes = self.step >= self.quantize_from_step
        self.step.add_(frames.n_valid > 0)
        value = torch.where(quantizes, result.value, frames.x.to(result.value.dtype))
        return joined._replace(value=value)

    def _part(self):
        return self._parts()[0]

    def _search(self, frames: Frames) -> Tensor:
        return self._part()._search(frames)

    def _decode(self, codes: Tensor) -> Tensor:
        return self._part()._decode(codes)

    def _set_step(self, step: int) -> None:
        super()._set_step(step)
        self.step.fill_(step)
