"""Tokens of a run of the SpeechBrain codec recipe."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sb_espnet_vq.tokenizer.base import TokenModel
from sb_espnet_vq.tokenizer.recipe_run import RecipeRun


class CodecTokens(TokenModel):
    """Encodes and decodes with a `Codec`.

    Arguments
    ---------
    codec : sb_espnet_vq.codec.model.Codec
    """

    name = "this codec"
    has_decoder = True

    def __init__(self, codec: Any):
        super().__init__()
        self.codec = codec
        self.sample_rate, self.hop = codec.sample_rate, codec.hop

    @property
    def quantizer(self):
        """The codec's quantizer."""
        return self.codec.quantizer

    def frames(self, signals: Tensor) -> Tensor:
        """Return the output (B, T, D) of the encoder."""
        return self.codec.encoder(signals)

    def features(self, signals: Tensor) -> Tensor:
        """Return the frames (B, T, D) before quantization."""
        return self.frames(signals)

    def audio(self, codes: Tensor) -> Tensor:
        """Return the audio (B, T * hop) of codes (B, T, K)."""
        return self.codec.decoder(self.quantizer.decode(codes))


def read_run(run: RecipeRun) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the options of `CodecTokens` and the state of a run."""
    state = run.states("mel", codec="codec.")
    return {"codec": run.describe("codec")}, state
