"""The interface of audio tokenizers in transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.modeling_utils import PreTrainedAudioTokenizerBase
from transformers.utils import ModelOutput

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer
from sb_espnet_vq.tokenizer.interfaces import conversion


@dataclass
class AudioTokens(ModelOutput):
    """audio_codes : (B, K, T) int64, 0 in padding; audio_values : (B, 1, L) float32."""

    audio_codes: Tensor | None = None
    audio_values: Tensor | None = None


class TransformersAudioTokenizer(PreTrainedAudioTokenizerBase):
    """A ``PreTrainedAudioTokenizerBase``, which processors of transformers take.

    ``save_pretrained`` and ``from_pretrained`` are those of `AudioTokenizer`.

    Arguments
    ---------
    source : AudioTokenizer, str or Path
        A tokenizer, or a run, saved folder or repository.

    Attributes
    ----------
    config : transformers.PretrainedConfig
        With sampling_rate (Hz), hop_length (samples), frame_rate (Hz), num_quantizers
        and codebook_size.

    Raises
    ------
    ConfigError
        If the codebooks differ in size.
    """

    config_class = PretrainedConfig
    main_input_name = "input_values"

    def __init__(self, source: AudioTokenizer | str | Path):
        tokenizer = conversion.of_source(source)
        hop = tokenizer.model.hop
        sizes: dict[str, Any] = {
            "sampling_rate": tokenizer.sample_rate,
            "hop_length": hop,
            "downsampling_ratios": [hop],
            "frame_rate": tokenizer.frame_rate,
            "num_quantizers": len(tokenizer.codebook_sizes),
            "codebook_size": conversion.one_size(tokenizer, "an audio tokenizer"),
        }
        super().__init__(PretrainedConfig(**sizes))
        self.tokenizer = tokenizer

    def encode(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
    ) -> AudioTokens:
        """Return ``audio_codes`` (B, K, T).

        Arguments
        ---------
        input_values : torch.Tensor
            (B, 1, L) or (B, L) float, at ``config.sampling_rate``.
        padding_mask : torch.Tensor, optional
            (B, L) or (B, 1, L), nonzero at valid samples, which come first.
        num_quantizers : int, optional
            Use only the first codebooks. Default: all.

        Returns
        -------
        AudioTokens

        Raises
        ------
        ConfigError
            If there are fewer codebooks.
        ShapeError
            If a shape or dtype is wrong, or the mask has valid samples after padding.
        """
        signals = conversion.mono(input_values, "input_values")
        samples = None
        if padding_mask is not None:
            mask = conversion.mono(padding_mask, "padding_mask").bool()
            samples = mask.sum(1)
            steps = torch.arange(mask.shape[1], device=mask.device)
            if not torch.equal(mask, steps < samples[:, None]):
                raise ShapeError("padding_mask must be nonzero up to the end of a row")
        tokens = conversion.encode(self.tokenizer, signals, samples, num_quantizers)
        return AudioTokens(audio_codes=tokens.transpose(1, 2))

    def decode(self, audio_codes: Tensor) -> AudioTokens:
        """Return ``audio_values`` (B, 1, L) of codes (B, K, T).

        Raises
        ------
        ConfigError
            If the model is no codec.
        ShapeError, ValueError
            If codes have a wrong shape, or one is out of range.
        """
        if not isinstance(audio_codes, Tensor) or audio_codes.dim() != 3:
            got = getattr(audio_codes, "shape", type(audio_codes))
            raise ShapeError(f"audio_codes must be (B, K, T), got {got}")
        audio = conversion.decode(self.tokenizer, audio_codes.transpose(1, 2), None)
        return AudioTokens(audio_values=audio[:, None])

    def forward(
        self, input_values: Tensor, padding_mask: Tensor | None = None
    ) -> AudioTokens:
        """Return ``audio_codes`` and the ``audio_values`` decoded from them."""
        out = self.encode(input_values, padding_mask)
        codes: Any = out.audio_codes
        return AudioTokens(codes, self.decode(codes).audio_values)

    def save_pretrained(self, *args: Any, **options: Any) -> Any:
        """Save the tokenizer, as ``AudioTokenizer.save_pretrained``."""
        return self.tokenizer.save_pretrained(*args, **options)

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> Any:
        """Load a tokenizer, as ``AudioTokenizer.from_pretrained``."""
        return cls(AudioTokenizer.from_pretrained(*args, **options))
