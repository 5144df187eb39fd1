"""Tokens of a run of the BEST-RQ recipe: the labels of its quantizer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.tokenizer.base import TokenModel
from sb_espnet_vq.tokenizer.recipe_run import RecipeRun


class BestRQTokens(TokenModel):
    """Log-mel features, stacked and quantized; and the pretrained encoder.

    Arguments
    ---------
    compute_features : torch.nn.Module
        Computes log-mel features (B, T, n_mels) of signals (B, L).
    normalize : torch.nn.Module
        SpeechBrain's ``InputNormalization``.
    front_end : torch.nn.Module
        ``CNN`` of the recipe.
    encoder : torch.nn.Module
        ``wrapper`` of the recipe.
    target_quantizer : torch.nn.Module
        `TargetQuantizer`.
    sample_rate : int
        In Hz.
    frame_hop : int
        Samples per feature frame.
    stack : int
        Feature frames per label.
    statistics : int
        Features of the normalizer's saved statistics; 0 if each utterance is
        normalized by its own.
    """

    name = "this BEST-RQ model"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        compute_features: nn.Module,
        normalize: Any,
        front_end: nn.Module,
        encoder: nn.Module,
        target_quantizer: Any,
        sample_rate: int,
        frame_hop: int,
        stack: int,
        statistics: int,
    ):
        super().__init__()
        if normalize.norm_type == "batch":
            raise ConfigError(
                "the normalizer uses statistics of the batch (norm_type: batch), so "
                "the codes of an utterance depend on the others: train with sentence "
                "or global"
            )
        self.compute_features, self.normalize = compute_features, normalize
        self.front_end, self.encoder = front_end, encoder
        self.target_quantizer = target_quantizer
        self.sample_rate, self.frame_hop, self.stack = sample_rate, frame_hop, stack
        self.hop = frame_hop * stack
        # SpeechBrain's class does not register them.
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("std", torch.ones(statistics))

    @property
    def quantizer(self):
        """The quantizer of the labels."""
        return self.target_quantizer.quantizer

    def frames(self, signals: Tensor) -> Tensor:
        """Return the stacks (B, T, D) of log-mel frames."""
        frames, steps = self._log_mels(signals)
        return frames.unflatten(1, (-1, self.stack)).flatten(2)[:, :steps]

    def features(self, signals: Tensor) -> Tensor:
        """Return the output (B, T, D) of the encoder for whole stacks."""
        frames, steps = self._log_mels(signals)
        # Attention over no step would be NaN.
        source = self.front_end(frames[:, : max(1, steps) * self.stack])
        output = self.encoder(source, dynchunktrain_config=None)
        last = output[0] if isinstance(output, tuple) else output
        return last[:, :steps]

    def layer_outputs(
        self, signals: Tensor, samples: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Return the outputs of the encoder's layers for padded signals."""
        counts = samples // self.frame_hop + 1
        frames = self.compute_features(signals)
        total = frames.shape[1]
        frames = self._normalized(frames, counts / total)
        valid = torch.arange(total, device=frames.device) < counts[:, None]
        # Attention over no step would be NaN.
        steps = (counts // self.stack).clamp(min=1)
        longest = int(steps.max()) * self.stack
        frames = F.pad(frames * valid[..., None], (0, 0, 0, self.stack))[:, :longest]
        source = self.front_end(frames)
        output = self.encoder(
            source, steps / source.shape[1], dynchunktrain_config=None
        )
        if isinstance(output, tuple):
            return [*output[1][:-1], output[0]], steps
        return [output], steps

    def train(self, mode: bool = True) -> BestRQTokens:
        """Set the mode; the feature statistics stay those of the pretraining."""
        super().train(mode)
        self.normalize.eval()
        return self

    def _normalized(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        self.normalize.glob_mean, self.normalize.glob_std = self.mean, self.std
        return self.normalize(frames, lengths)

    def _log_mels(self, signals: Tensor) -> tuple[Tensor, int]:
        """Return frames, padded to whole stacks, and the stacks without padding."""
        valid = signals.shape[1] // self.frame_hop + 1
        frames = self._normalized(self.compute_features(signals))[:, :valid]
        padded = F.pad(frames, (0, 0, 0, -frames.shape[1] % self.stack))
        return padded, valid // self.stack


def read_run(run: RecipeRun) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the options of `BestRQTokens` and the state of a run."""
    state = run.states("loss", model="", quantizer="target_quantizer.")
    names = {"0.": "front_end.", "1.": "encoder."}
    for key in [key for key in state if key[:2] in names]:
        state[names[key[:2]] + key[2:]] = state.pop(key)
    statistics = run.load("loss", "normalize")
    state["mean"] = statistics["glob_mean"]
    state["std"] = statistics["glob_std"]
    rate, hop = run.value("sample_rate"), run.value("hop_length")
    options = {
        "compute_features": run.describe("compute_features"),
        "normalize": run.describe("normalize"),
        "front_end": run.describe("CNN"),
        "encoder": run.describe("wrapper"),
        "target_quantizer": run.describe("target_quantizer"),
        "sample_rate": rate,
        "frame_hop": rate * hop // 1000,
        "stack": run.value("pad_to_divisible_by"),
        "statistics": len(state["mean"]),
    }
    return options, state
