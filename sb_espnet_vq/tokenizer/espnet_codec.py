"""Tokens of a codec that ESPnet's training made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML, YAMLError
from torch import Tensor

from sb_espnet_vq.errors import CheckpointError, ConfigError
from sb_espnet_vq.tokenizer.base import TokenModel

# The stock codecs with `rvq`, which has the state and the codes of ESPnet's quantizer.
STOCK = {"soundstream": "vq_soundstream", "encodec": "vq_encodec", "dac": "vq_dac"}
_NEEDS = "needs_sb_espnet_vq"
_PREFIX = "codec.generator."
MODEL, CONFIG = "latest.pth", "config.yaml"


class ESPnetTokens(TokenModel):
    """Encodes and decodes with the generator of an ESPnet codec.

    Arguments
    ---------
    codec : str
        ``vq_soundstream``, ``vq_encodec`` or ``vq_dac``.
    codec_conf : dict
        Its options.
    """

    name = "this ESPnet codec"
    has_decoder = True
    codec: Any

    def __init__(self, codec: str, codec_conf: dict[str, Any]):
        super().__init__()
        from sb_espnet_vq.gan_codec.codecs import CODECS

        if codec not in CODECS:
            raise ConfigError(f"codec must be one of {', '.join(CODECS)}, got {codec}")
        self.codec = CODECS[codec](**codec_conf)
        # Discriminators and losses serve training alone.
        for part in [part for part, _ in self.codec.named_children()]:
            if part != "generator":
                delattr(self.codec, part)
        self.sample_rate, self.hop = self.codec.fs, self.codec.frame_shift
        self.beam = self.codec.generator.quantizer.beam

    @property
    def quantizer(self):
        """The codec's quantizer."""
        return self.codec.generator.quantizer.vq

    def frames(self, signals: Tensor) -> Tensor:
        """Return the output (B, T, D) of the encoder."""
        return self.codec.generator.encoder(signals[:, None]).transpose(1, 2)

    def features(self, signals: Tensor) -> Tensor:
        """Return the frames (B, T, D) before quantization."""
        return self.frames(signals)

    def audio(self, codes: Tensor) -> Tensor:
        """Return the audio (B, T * hop) of codes (B, T, K)."""
        frames = self.quantizer.decode(codes).transpose(1, 2)
        return self.codec.generator.decoder(frames)[:, 0]


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the options of `ESPnetTokens` and the state of a run.

    Raises
    ------
    CheckpointError
        If the configuration or the model cannot be read, or needs a swap.
    """
    try:
        config = YAML(typ="safe").load((folder / CONFIG).read_text(encoding="utf-8"))
        codec, conf = config["codec"], dict(config["codec_conf"])
    except (YAMLError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: not the configuration of an ESPnet codec ({error!r})"
        ) from error
    needs = conf.pop(_NEEDS, None)
    if needs and "--swap" in needs:
        raise CheckpointError(
            f"{folder}: this codec was trained with {needs}; a tokenizer needs a codec "
            f"that names its quantizer ({', '.join(STOCK.values())})"
        )
    file = folder / MODEL
    if not file.exists():
        raise CheckpointError(f"{folder}: no {MODEL}; has the training finished?")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{file}: cannot be read as a model ({error})") from error
    own = {key: value for key, value in state.items() if key.startswith(_PREFIX)}
    return {"codec": STOCK.get(codec, codec), "codec_conf": conf}, own
