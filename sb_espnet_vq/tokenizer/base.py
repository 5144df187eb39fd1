"""What `AudioTokenizer` needs of a model."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.quantizers.base import Quantizer


class TokenModel(nn.Module):
    """A trained model whose quantizer makes the tokens.

    It gets signals of equal length, without padding: convolutions and attention of the
    toolkits' networks let padding change valid frames.

    Attributes
    ----------
    name : str
        Names the kind of model in errors.
    sample_rate : int
        In Hz.
    hop : int
        Samples per frame of codes.
    beam : int
        Chains of codes that the search keeps by default.
    has_decoder : bool
        Whether codes can be turned into audio.
    """

    has_decoder = False
    name: str
    sample_rate: int
    hop: int
    beam: int = 1

    @property
    @abstractmethod
    def quantizer(self) -> Quantizer:
        """The quantizer that makes the codes."""

    @abstractmethod
    def frames(self, signals: Tensor) -> Tensor:
        """Return the frames (B, T, D) of signals (B, L), L above 0, to be quantized."""

    def codes(self, signals: Tensor, **options: Any) -> Tensor:
        """Return the codes (B, T, K) of signals (B, L), L above 0.

        The options are those of the quantizer's ``encode``.
        """
        return self.quantizer.encode(self.frames(signals), **options)

    def features(self, signals: Tensor) -> Tensor:
        """Return the output (B, T, D) of the encoder for signals (B, L)."""
        raise ConfigError(f"{self.name} has no encoder of features")

    def audio(self, codes: Tensor) -> Tensor:
        """Return the audio (B, T * hop) of codes (B, T, K), T above 0."""
        raise ConfigError(
            f"{self.name} has no decoder: its codes cannot be turned into audio, only "
            "those of a codec can"
        )
