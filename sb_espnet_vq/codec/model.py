"""A codec: an encoder, any quantizer and a decoder, with a choice of bandwidths."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError, ShapeError
from sb_espnet_vq.ops.bandwidth import bandwidth_per_codebook, codebooks_for_bandwidth
from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.quantizers.checks import other_family, signed_codes
from sb_espnet_vq.quantizers.learning import FreezableModule
from sb_espnet_vq.registry import build, family_options


class CodecOutput(NamedTuple):
    """What `Codec` returns.

    Arguments
    ---------
    signals : torch.Tensor
        (B, L), the audio as it comes out; 0 after an utterance's end.
    codes : torch.Tensor
        (B, T, K) int64, -1 after it.
    loss : torch.Tensor
        Scalar, the quantizer's own, weighted.
    stats : dict
        The quantizer's: `perplexity`, `used_codes` and more.
    """

    signals: Tensor
    codes: Tensor
    loss: Tensor
    stats: dict[str, Tensor]


class Codec(FreezableModule):
    """Audio to codes and back, at the bandwidth that is asked for.

    Arguments
    ---------
    encoder : torch.nn.Module
        As `ConvEncoder`: (B, L) and real samples to (B, T, dim); has ``hop``.
    decoder : torch.nn.Module
        As `ConvDecoder`: (B, T, dim) and real frames to (B, T * hop).
    sample_rate : int
        Of the audio, in Hz.
    dim : int
        Width of the frames.
    codebook_size : int
        Codes in each codebook.
    n_codebooks : int
        How many, where the family has several.
    quantizer : str
        A registered name, or the full path of a class.
    quantizer_conf : dict, optional
        Options of the family; they win over what the arguments above say.

    Raises
    ------
    ConfigError
        If the name or an option is unknown or out of range, or if the family has
        several codebooks and no way to use fewer.

    Example
    -------
    >>> from sb_espnet_vq.codec.networks import ConvDecoder, ConvEncoder
    >>> sizes = {"dim": 8, "channels": 4, "ratios": (4, 5)}
    >>> encoder, decoder = ConvEncoder(**sizes), ConvDecoder(**sizes)
    >>> codec = Codec(encoder, decoder, 8000, dim=8, codebook_size=16, n_codebooks=4)
    >>> codec.frame_rate, codec.bitrate()
    (400.0, 6.4)
    >>> codes = codec.eval().encode(torch.randn(2, 810), bandwidth=3.2)
    >>> codes.shape, codec.decode(codes).shape
    (torch.Size([2, 41, 2]), torch.Size([2, 820]))
    >>> codec.decode(codes, samples=torch.tensor([810, 810])).shape
    torch.Size([2, 810])
    """

    quantizer: Quantizer

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        sample_rate: int,
        dim: int,
        codebook_size: int = 1024,
        n_codebooks: int = 8,
        quantizer: str = "rvq",
        quantizer_conf: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        mapped = {
            "dim": dim,
            "codebook_size": codebook_size,
            "n_codebooks": n_codebooks,
        }
        self.sample_rate, self.family = sample_rate, quantizer
        self.encoder, self.decoder = encoder, decoder
        self.hop: int = encoder.hop  # type: ignore[assignment]
        options = family_options(quantizer, mapped, quantizer_conf)
        self.quantizer = build(quantizer, **options)
        parameters = inspect.signature(self.quantizer.forward).parameters
        self._takes_number = "n_codebooks" in parameters
        if self.quantizer.n_codebooks > 1 and not self._takes_number:
            raise ConfigError(
                f"{quantizer} has {self.quantizer.n_codebooks} codebooks and no way to "
                "use fewer, which a codec with several bandwidths needs"
            )

    @property
    def frame_rate(self) -> float:
        """Frames a second (Hz)."""
        return self.sample_rate / self.hop

    def bitrate(self, n_codebooks: int | None = None) -> float:
        """Return the rate of the first ``n_codebooks``, by default of all.

        Arguments
        ---------
        n_codebooks : int, optional
            How many are in use.

        Returns
        -------
        float
            kbit/s.
        """
        used = self.quantizer.n_codebooks if n_codebooks is None else n_codebooks
        return used * self._per_codebook()

    def codebooks_for(self, bandwidth: float | None) -> int:
        """Return how many codebooks fit a bandwidth, at least one and at most all.

        Arguments
        ---------
        bandwidth : float, optional
            kbit/s; None, 0 or less asks for all.

        Returns
        -------
        int

        Raises
        ------
        ConfigError
            If the bandwidth is not a number.
        """
        return codebooks_for_bandwidth(
            bandwidth, self._per_codebook(), self.quantizer.n_codebooks
        )

    def forward(
        self,
        signals: Tensor,
        samples: Tensor | None = None,
        bandwidth: float | None = None,
    ) -> CodecOutput:
        """Encode, quantize and decode; in training, the codebooks learn.

        Arguments
        ---------
        signals : torch.Tensor
            (B, L) float.
        samples : torch.Tensor, optional
            (B,) int64, real samples of each row; by default all.
        bandwidth : float, optional
            kbit/s to stay within; None for all codebooks.

        Returns
        -------
        CodecOutput

        Raises
        ------
        ShapeError, ConfigError
            If a shape is wrong, or the bandwidth is not a number.
        """
        frames = self.encoder(signals, samples)
        out = self.quantizer(
            frames, mask=self._mask(frames, samples), **self._number(bandwidth)
        )
        signals = self._to_audio(out.quantized, samples, signals.shape[1])
        return CodecOutput(signals, out.codes, out.loss, out.stats)

    @torch.no_grad()
    def encode(
        self,
        signals: Tensor,
        samples: Tensor | None = None,
        bandwidth: float | None = None,
    ) -> Tensor:
        """Return the codes of audio and change nothing.

        Arguments
        ---------
        signals, samples, bandwidth
            As in ``forward``.

        Returns
        -------
        torch.Tensor
            (B, T, K) int64, -1 after an utterance's end.
        """
        frames = self.encoder(signals, samples)
        mask = self._mask(frames, samples)
        return self.quantizer.encode(frames, mask=mask, **self._number(bandwidth))

    @torch.no_grad()
    def decode(self, codes: Tensor, samples: Tensor | None = None) -> Tensor:
        """Return the audio of codes.

        Arguments
        ---------
        codes : torch.Tensor
            (B, T, K) integers; the first K codebooks, -1 after an utterance's end.
        samples : torch.Tensor, optional
            (B,) int64, valid samples of each row, as passed to ``encode``. Without it,
            the audio ends with the last frame of each row.

        Returns
        -------
        torch.Tensor
            (B, L) float32, 0 after an utterance's end; L is that of the longest row,
            or T * hop without ``samples``. Rows do not depend on each other.

        Raises
        ------
        ShapeError
            If codes have another shape or dtype, or ``samples`` does not fit them.
        ValueError
            If a code is out of range (eager mode on a CPU; else NaN).
        """
        if isinstance(codes, Tensor) and codes.dim() != 3:
            raise ShapeError(f"codes must be (B, T, K), got {tuple(codes.shape)}")
        frames = self.quantizer.decode(codes)
        length = codes.shape[1] * self.hop
        if samples is None:
            real = signed_codes(codes, self.quantizer.codebook_size) >= 0
            steps = torch.arange(codes.shape[1] + 1, device=codes.device)
            last = (steps * F.pad(real.any(-1), (1, 0))).amax(1)
            return self._to_audio(frames, last * self.hop, length)
        longest = self._longest(samples, codes.shape[0], length)
        return self._to_audio(frames, samples, longest)

    @staticmethod
    def _longest(samples: Tensor, rows: int, most: int) -> int:
        if not isinstance(samples, Tensor) or samples.shape != (rows,):
            is_tensor = isinstance(samples, Tensor)
            got = tuple(samples.shape) if is_tensor else type(samples).__name__
            raise ShapeError(
                f"samples must be ({rows},), one number for each row of codes; got "
                f"{got}"
            )
        longest = int(samples.max()) if rows else 0
        if rows and int(samples.min()) < 0 or longest > most:
            raise ShapeError(
                f"samples must lie in [0, {most}], the length of the codes; got "
                f"{samples.tolist()}"
            )
        return longest

    def _per_codebook(self) -> float:
        return bandwidth_per_codebook(self.quantizer.codebook_size, self.frame_rate)

    def _number(self, bandwidth: float | None) -> dict[str, Any]:
        used = self.codebooks_for(bandwidth)
        return {"n_codebooks": used} if self._takes_number else {}

    def _mask(self, frames: Tensor, samples: Tensor | None) -> Tensor | None:
        if samples is None:
            return None
        starts = torch.arange(frames.shape[1], device=frames.device) * self.hop
        return starts < samples[:, None]

    def _to_audio(self, frames: Tensor, samples: Tensor | None, length: int) -> Tensor:
        if samples is None:
            return self.decoder(frames)[:, :length]
        signals = self.decoder(frames, -(-samples // self.hop))[:, :length]
        return signals * (
            torch.arange(length, device=signals.device) < samples[:, None]
        )

    def _load_from_state_dict(
        self, state_dict, prefix, metadata, strict, missing, unexpected, errors
    ):
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )
        if strict:
            mine = [f"{prefix}quantizer.{key}" for key in self.quantizer.state_dict()]
            errors += other_family(state_dict, f"{prefix}quantizer.", mine, self.family)
