"""A codec with several bitrates: an encoder, any quantizer and a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.ops.bandwidth import (
    bandwidth_per_codebook,
    codebooks_for_bandwidth,
    total_bandwidth,
)
from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.quantizers.chain import beam_options
from sb_espnet_vq.quantizers.checks import other_quantizer, signed_codes
from sb_espnet_vq.quantizers.learning import FreezableModule
from sb_espnet_vq.registry import build
from sb_espnet_vq.toolkit_words import translate


class CodecOutput(NamedTuple):
    """Output of `Codec`.

    Arguments
    ---------
    signals : torch.Tensor
        (B, L) decoded audio, 0 in padding.
    codes : torch.Tensor
        (B, T, K) int64, -1 in padding.
    loss : torch.Tensor
        Scalar, weighted loss of the quantizer.
    stats : dict
        Statistics of the quantizer: `perplexity`, `used_codes` and its loss terms.
    """

    signals: Tensor
    codes: Tensor
    loss: Tensor
    stats: dict[str, Tensor]


class Codec(FreezableModule):
    """Encodes audio to codes and decodes them, at a requested bandwidth.

    Arguments
    ---------
    encoder : torch.nn.Module
        Maps (B, L) and numbers of valid samples to (B, T, dim), like `ConvEncoder`;
        its attribute ``hop`` is the hop size in samples.
    decoder : torch.nn.Module
        Maps (B, T, dim) and numbers of valid frames to (B, T * hop), like
        `ConvDecoder`.
    sample_rate : int
        Sample rate of the audio in Hz.
    dim : int
        Dimension of the frames.
    codebook_size : int
        Codes in each codebook.
    n_codebooks : int
        Number of codebooks, if the quantizer supports several.
    quantizer : str
        A registered name, or the full path of a class.
    quantizer_conf : dict, optional
        Options of the quantizer; they override the arguments above.

    Raises
    ------
    ConfigError
        If the name or an option is unknown or out of range.

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
        sizes = {
            "dim": dim,
            "codebook_size": codebook_size,
            "n_codebooks": n_codebooks,
        }
        self.sample_rate, self.quantizer_name = sample_rate, quantizer
        self.encoder, self.decoder = encoder, decoder
        self.hop: int = encoder.hop  # type: ignore[assignment]
        options = translate(quantizer, sizes, quantizer_conf)
        self.quantizer = build(quantizer, **options)

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz)."""
        return self.sample_rate / self.hop

    def bitrate(self, n_codebooks: int | None = None) -> float:
        """Return the bitrate of the first ``n_codebooks``, by default of all.

        Arguments
        ---------
        n_codebooks : int, optional
            Number of codebooks in use.

        Returns
        -------
        float
            kbit/s.
        """
        return total_bandwidth(self._rates(), n_codebooks)

    def codebooks_for(self, bandwidth: float | None) -> int:
        """Return the number of codebooks for a bandwidth, at least one, at most all.

        Arguments
        ---------
        bandwidth : float, optional
            kbit/s; None, 0 or less selects all.

        Returns
        -------
        int

        Raises
        ------
        ConfigError
            If the bandwidth is not a number.
        """
        return codebooks_for_bandwidth(bandwidth, self._rates())

    def forward(
        self,
        signals: Tensor,
        samples: Tensor | None = None,
        bandwidth: float | None = None,
    ) -> CodecOutput:
        """Encode, quantize and decode; in training, update the codebooks.

        Arguments
        ---------
        signals : torch.Tensor
            (B, L) float.
        samples : torch.Tensor, optional
            (B,) int64, valid samples of each row. Default: all.
        bandwidth : float, optional
            Maximum bitrate in kbit/s; None for all codebooks.

        Returns
        -------
        CodecOutput

        Raises
        ------
        ShapeError, ConfigError
            If a shape is wrong, or the bandwidth is not a number.
        """
        frames, mask = self.frames(signals, samples)
        used = self.codebooks_for(bandwidth)
        out = self.quantizer(frames, mask=mask, n_codebooks=used)
        signals = self._to_audio(out.quantized, samples, signals.shape[1])
        return CodecOutput(signals, out.codes, out.loss, out.stats)

    def frames(
        self, signals: Tensor, samples: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the frames of audio, which the quantizer encodes.

        Arguments
        ---------
        signals, samples
            As in ``forward``.

        Returns
        -------
        frames : torch.Tensor
            (B, T, dim) float.
        mask : torch.Tensor, optional
            (B, T) bool, True at valid frames; None if all are.
        """
        frames = self.encoder(signals, samples)
        return frames, self._mask(frames, samples)

    @torch.no_grad()
    def encode(
        self,
        signals: Tensor,
        samples: Tensor | None = None,
        bandwidth: float | None = None,
        beam: int = 1,
    ) -> Tensor:
        """Return the codes of audio; no state changes.

        Arguments
        ---------
        signals, samples, bandwidth
            As in ``forward``.
        beam : int
            Chains of codes that the search of a residual quantizer keeps; see its
            ``encode``. Codes are then those of this bandwidth only.

        Returns
        -------
        torch.Tensor
            (B, T, K) int64, -1 in padding.

        Raises
        ------
        ShapeError, ConfigError
            As in ``forward``; ConfigError also if the quantizer cannot search with
            this beam.
        """
        options = beam_options(self.quantizer, beam)
        frames, mask = self.frames(signals, samples)
        used = self.codebooks_for(bandwidth)
        return self.quantizer.encode(frames, mask=mask, n_codebooks=used, **options)

    @torch.no_grad()
    def decode(self, codes: Tensor, samples: Tensor | None = None) -> Tensor:
        """Decode codes to audio.

        Arguments
        ---------
        codes : torch.Tensor
            (B, T, K) integers of the first K codebooks, -1 in padding.
        samples : torch.Tensor, optional
            (B,) int64, valid samples of each row, as passed to ``encode``. Without it,
            the audio ends with the last frame of each row.

        Returns
        -------
        torch.Tensor
            (B, L) float32, 0 in padding. L is the length of the longest row, or
            T * hop without ``samples``. Rows do not depend on each other.

        Raises
        ------
        ShapeError
            If codes have a wrong shape or dtype, or ``samples`` does not match them.
        ValueError
            If a code is out of range (eager mode on a CPU; else NaN).
        """
        if isinstance(codes, Tensor) and codes.dim() != 3:
            raise ShapeError(f"codes must be (B, T, K), got {tuple(codes.shape)}")
        frames = self.quantizer.decode(codes)
        length = codes.shape[1] * self.hop
        if samples is None:
            valid = signed_codes(codes, self.quantizer.codebook_size) >= 0
            steps = torch.arange(codes.shape[1] + 1, device=codes.device)
            last = (steps * F.pad(valid.any(-1), (1, 0))).amax(1)
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

    def _rates(self) -> list[float]:
        sizes = self.quantizer.codebook_sizes
        return [bandwidth_per_codebook(size, self.frame_rate) for size in sizes]

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
            errors += other_quantizer(
                state_dict, f"{prefix}quantizer.", mine, self.quantizer_name
            )
