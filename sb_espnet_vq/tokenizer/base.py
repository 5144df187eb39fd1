"""What `AudioTokenizer` needs of a model."""

from __future__ import annotations

from abc import abstractmethod

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
    has_decoder : bool
        Whether codes can be turned into audio.
    """

    has_decoder = False
    name: str
    sample_rate: int
    hop: int

    @property
    @abstractmethod
    def quantizer(self) -> Quantizer:
        """The quantizer that makes the codes."""

    @abstractmethod
    def codes(self, signals: Tensor, n_codebooks: int) -> Tensor:
        """Return the codes (B, T, n_codebooks) of signals (B, L), L above 0."""

    def features(self, signals: Tensor) -> Tensor:
        """Return the output (B, T, D) of the encoder for signals (B, L)."""
        raise ConfigError(f"{self.name} has no encoder of features")

    def audio(self, codes: Tensor) -> Tensor:
        """Return the audio (B, T * hop) of codes (B, T, K), T above 0."""
        raise ConfigError(
            f"{self.name} has no decoder: its codes cannot be turned into audio, only "
            "those of a codec can"
        )
