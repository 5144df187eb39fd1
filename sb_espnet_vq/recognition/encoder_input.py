"""The output of a pretrained encoder as the input of a recognizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.recognition.base import Input

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer


class EncoderInput(Input):
    """The output of a pretrained encoder, or a weighted sum over its layers.

    Arguments
    ---------
    tokenizer : AudioTokenizer
        Its model is one of BEST-RQ or wav2vec 2.0.
    use : str
        ``frozen``: the output of the encoder. ``fine_tuned``: the same, and the encoder
        is trained too. ``weighted_sum``: the encoder is frozen, and its layers, each
        normalized, are summed with weights that are trained (Yang et al. 2021,
        https://arxiv.org/abs/2105.01051).

    Raises
    ------
    ConfigError
        If the model has no such encoder, or a weighted sum would have one term.
    """

    def __init__(self, tokenizer: AudioTokenizer, use: str = "frozen"):
        super().__init__()
        self.model: Any = tokenizer.model
        self.sample_rate = self.model.sample_rate
        self.name = f"encoder, {use.replace('_', ' ')}"
        self.trained = use == "fine_tuned"
        outputs = self._outputs_of_a_second()
        self.width = outputs[-1].shape[2]
        self.weights: nn.Parameter | None = None
        if use == "weighted_sum":
            if len(outputs) < 2:
                raise ConfigError(
                    "a weighted sum needs the outputs of several layers, but this "
                    "encoder has one output; use it frozen, or train with "
                    "output_hidden_states"
                )
            self.weights = nn.Parameter(torch.zeros(len(outputs)))

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the encoder that are trained."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def train(self, mode: bool = True) -> EncoderInput:
        """Set the mode; an encoder that is not trained stays in eval mode."""
        super().train(mode)
        self.model.train(mode and self.trained)
        return self

    def forward(self, signals: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames of signals (B, L)."""
        with torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            outputs, lengths = self.model.layer_outputs(signals, samples)
        if self.weights is None:
            return outputs[-1], lengths
        layers = torch.stack([F.layer_norm(x, x.shape[-1:]) for x in outputs], -1)
        return layers @ self.weights.softmax(0), lengths

    def _outputs_of_a_second(self) -> list[Tensor]:
        """Return the layers' outputs, and mark the parameters that are trained.

        These are the ones that the output depends on: not those of the quantizer.
        """
        self.model.requires_grad_(self.trained)
        samples = torch.tensor([self.sample_rate])
        signal = torch.linspace(-1, 1, int(samples)).expand(1, -1)
        outputs, _ = self.model.layer_outputs(signal, samples)
        if self.trained:
            outputs[-1].sum().backward()
        for parameter in self.model.parameters():
            parameter.requires_grad = parameter.grad is not None
            parameter.grad = None
        return outputs


def with_new_weights(tokenizer: AudioTokenizer) -> AudioTokenizer:
    """Return the same model with random weights, as its training began.

    Arguments
    ---------
    tokenizer : AudioTokenizer

    Returns
    -------
    AudioTokenizer
        Its buffers, such as feature statistics, are those of the given one.
    """
    fresh = type(tokenizer)(tokenizer.config)
    state = fresh.state_dict()
    kept = {k: v for k, v in tokenizer.named_buffers() if k in state}
    fresh.load_state_dict(state | kept)
    return fresh
