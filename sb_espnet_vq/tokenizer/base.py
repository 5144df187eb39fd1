"""What `AudioTokenizer` needs of a model."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.tokenizer.streamed_layers import Layer


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

    def sizes(self, n_codebooks: int | None = None) -> tuple[int, ...]:
        """Return the sizes of the first codebooks, by default of all."""
        sizes = tuple(self.quantizer.codebook_sizes)
        used = len(sizes) if n_codebooks is None else n_codebooks
        if not isinstance(used, int) or not 1 <= used <= len(sizes):
            raise ConfigError(
                f"n_codebooks must be in [1, {len(sizes)}], got {n_codebooks}"
            )
        return sizes[:used]

    @abstractmethod
    def frames(self, signals: Tensor) -> Tensor:
        """Return the frames (B, T, D) of signals (B, L), L above 0, to be quantized."""

    def codes(self, signals: Tensor, n_codebooks: int, **search: Any) -> Tensor:
        """Return the codes (B, T, n_codebooks) of signals (B, L), L above 0.

        Further options are those of the quantizer's ``encode``.
        """
        frames = self.frames(signals)
        return self.quantizer.encode(frames, n_codebooks=n_codebooks, **search)

    def features(self, signals: Tensor) -> Tensor:
        """Return the output (B, T, D) of the encoder for signals (B, L)."""
        raise ConfigError(f"{self.name} has no encoder of features")

    def layer_outputs(
        self, signals: Tensor, samples: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Return the outputs (B, T, D) of the encoder's layers, and their frames (B,).

        The signals (B, L) are padded at the end; ``samples`` (B,) are the valid ones of
        each row. The last output is that of the whole encoder, normalized. Gradients
        reach its parameters, and frames in the padding are undefined.
        """
        raise ConfigError(
            f"{self.name} has no pretrained encoder; those of BEST-RQ and wav2vec 2.0 "
            "have one"
        )

    def causal_layers(self) -> tuple[list[Layer], list[Layer]]:
        """Return the layers of encoder and decoder for one stream of a causal codec."""
        raise ConfigError(
            f"{self.name} cannot be used on a stream, only causal codecs of the codec "
            "recipe (causal: true) and of ESPnet can"
        )

    def audio(self, codes: Tensor) -> Tensor:
        """Return the audio (B, T * hop) of codes (B, T, K), T above 0."""
        raise ConfigError(
            f"{self.name} has no decoder: its codes cannot be turned into audio, only "
            "those of a codec can"
        )
