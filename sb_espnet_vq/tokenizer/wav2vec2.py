"""Tokens of a run of the wav2vec 2.0 recipe: the codes of its targets."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sb_espnet_vq.tokenizer.base import TokenModel
from sb_espnet_vq.tokenizer.recipe_run import RecipeRun


class Wav2Vec2Tokens(TokenModel):
    """Quantized latent frames; and the pretrained encoder.

    Arguments
    ---------
    front_end : torch.nn.Module
        `LogMelFrontEnd` or `WaveformFrontEnd`.
    latent_encoder : torch.nn.Module
        SpeechBrain's ``EncoderWrapper``.
    target_quantiser : torch.nn.Module
        SpeechBrain's ``W2VTargetQuantiser`` with a `ContrastiveQuantizer`.
    sample_rate : int
        In Hz.
    hop : int
        Samples per latent frame.
    """

    name = "this wav2vec 2.0 model"

    def __init__(
        self,
        front_end: Any,
        latent_encoder: nn.Module,
        target_quantiser: Any,
        sample_rate: int,
        hop: int,
    ):
        super().__init__()
        self.front_end, self.latent_encoder = front_end, latent_encoder
        self.target_quantiser = target_quantiser
        self.sample_rate, self.hop = sample_rate, hop

    @property
    def quantizer(self):
        """The quantizer of the targets."""
        inner = self.target_quantiser.quantiser.quantizer
        # `gumbel` is held by a drop-in class.
        return getattr(inner, "quantizer", inner)

    def features(self, signals: Tensor) -> Tensor:
        """Return the output (B, T, D) of the encoder."""
        frames = self.frames(signals)
        if not frames.shape[1]:
            width = self.latent_encoder(frames.new_zeros(1, 1, frames.shape[2]))
            return frames.new_zeros(len(frames), 0, width["embeddings"].shape[2])
        padding = torch.zeros(frames.shape[:2], dtype=torch.bool, device=frames.device)
        return self.latent_encoder(frames, padding_mask=padding)["embeddings"]

    def layer_outputs(
        self, signals: Tensor, samples: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Return the outputs of the encoder's layers for padded signals."""
        # Attention over no frame would be NaN.
        steps = self.front_end.lengths(samples).clamp(min=1)
        frames = self.front_end(signals, samples)[:, : int(steps.max())]
        padding = torch.arange(frames.shape[1], device=frames.device) >= steps[:, None]
        outputs: list[Tensor] = []
        # SpeechBrain's wrapper returns the last output only.
        layers: Any = self.latent_encoder.latent_encoder
        hooks = [
            layer.register_forward_hook(lambda *call: outputs.append(call[2][0]))
            for layer in layers.layers
        ]
        try:
            last = self.latent_encoder(frames, padding_mask=padding)["embeddings"]
        finally:
            for hook in hooks:
                hook.remove()
        return [*outputs[:-1], last], steps

    def frames(self, signals: Tensor) -> Tensor:
        """Return the latent frames (B, T, D)."""
        samples = torch.full((len(signals),), signals.shape[1], device=signals.device)
        steps = max(0, self.front_end.count(signals.shape[1]))
        return self.front_end(signals, samples)[:, :steps]


def read_run(run: RecipeRun) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the options of `Wav2Vec2Tokens` and the state of a run."""
    metric = "nats_above_chance"
    names = {
        "latent_encoder": "latent_encoder.",
        "target_quantiser": "target_quantiser.",
    }
    rate = run.value("sample_rate")
    if "latent_extractor" in run:
        names["latent_extractor"] = "front_end.extractor."
        hop = math.prod(run.value("extractor_strides"))
    else:
        names["front_end"] = "front_end."
        hop = rate * run.value("hop_length") // 1000 * run.value("stack")
    options = {key: run.describe(key) for key in ("front_end", "latent_encoder")}
    options["target_quantiser"] = run.describe("target_quantiser")
    return options | {"sample_rate": rate, "hop": hop}, run.states(metric, **names)
