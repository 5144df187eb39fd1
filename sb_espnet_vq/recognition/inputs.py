"""What a recognizer gets: an encoder's output, log-mel features or tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.corpora.audio import read_audio
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.tokenizer.models import load_tokenizer
from sb_espnet_vq.utils.speech_batch import SpeechBatch

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer


class Input(nn.Module):
    """Computes the frames of a recognizer.

    Attributes
    ----------
    name : str
        For tables.
    width : int
        Size of a frame.
    sample_rate : int
        Sample rate in Hz of the audio that `read` expects; None if any.
    in_memory : bool
        Whether what `read` returns is kept, as it is small and takes time.
    """

    in_memory = False
    name: str
    width: int
    sample_rate: int | None = None

    def read(self, path: str | Path, sample_rate: int) -> Tensor:
        """Return what a batch holds of an audio file: (L, ...), here the signal."""
        return read_audio(path, sample_rate)

    def gather(self, batches: Iterable[SpeechBatch]) -> None:
        """Collect statistics of the training set, if any are needed."""

    @abstractmethod
    def forward(self, signals: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames (B, T, width) and their number (B,), at least 1.

        The arguments are a padded batch of what `read` returns and its lengths (B,).
        """


class LogMelInput(Input):
    """Normalized log-mel features.

    Arguments
    ---------
    front_end : LogMelFrontEnd
        Computes them.
    """

    name = "log-mel features"

    def __init__(self, front_end: Any):
        super().__init__()
        self.front_end = front_end
        self.width = len(front_end.normalize.mean) * front_end.stack_frames.stack

    def gather(self, batches: Iterable[SpeechBatch]) -> None:
        """Collect the statistics of the normalization."""
        self.front_end.gather(batches)

    def forward(self, signals: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of signals (B, L)."""
        frames = self.front_end(signals, samples)
        return frames, self.front_end.lengths(samples).clamp(min=1)


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
        If the model has no such encoder.
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
            self.weights = nn.Parameter(torch.zeros(len(outputs)))

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


class TokenInput(Input):
    """The sum of an embedding for each codebook, as in DASB.

    Mousavi et al. 2024, https://arxiv.org/abs/2406.14294. Every utterance is encoded
    once.

    Arguments
    ---------
    tokenizer : AudioTokenizer
        Makes the tokens.
    width : int
        Size of the embeddings.
    n_codebooks : int, optional
        Use only the first codebooks. Default: all.

    Raises
    ------
    ConfigError
        If there are fewer codebooks.
    """

    in_memory = True
    first: Tensor

    def __init__(
        self,
        tokenizer: AudioTokenizer,
        width: int = 128,
        n_codebooks: int | None = None,
    ):
        super().__init__()
        self.tokenizer, self.n_codebooks = tokenizer, n_codebooks
        self.sample_rate, self.width = tokenizer.sample_rate, width
        sizes = tokenizer.model.sizes(n_codebooks)
        self.name = f"tokens of {len(sizes)} codebooks"
        # Each codebook has a row more, for a frame without a code (-1).
        rows = torch.tensor([size + 1 for size in sizes])
        self.embedding = nn.Embedding(int(rows.sum()), width)
        self.register_buffer("first", rows.cumsum(0) - rows, persistent=False)

    def read(self, path: str | Path, sample_rate: int) -> Tensor:
        """Return the tokens (T, K) of an audio file; at least one frame."""
        signal = read_audio(path, sample_rate)[None].to(self.embedding.weight.device)
        codes, _ = self.tokenizer.encode(signal, n_codebooks=self.n_codebooks)
        return F.pad(codes[0], (0, 0, 0, int(codes.shape[1] == 0)), value=-1).cpu()

    def forward(self, signals: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings of tokens (B, T, K)."""
        return self.embedding(signals + 1 + self.first).sum(2), samples


def make_input(
    front_end: Any,
    width: int,
    pretrained: str | None = None,
    untrained: bool = False,
    encoder_use: str = "frozen",
    tokens: str | None = None,
    token_codebooks: int | None = None,
) -> Input:
    """Return the input that some hyperparameters select.

    Arguments
    ---------
    front_end : LogMelFrontEnd
        Used without ``pretrained`` and without ``tokens``.
    width : int
        Size of the embeddings of tokens.
    pretrained : str, optional
        A run of BEST-RQ or wav2vec 2.0, or another name for `load_tokenizer`.
    untrained : bool
        Give the encoder of ``pretrained`` new random weights.
    encoder_use : str
        As in `EncoderInput`.
    tokens : str, optional
        A run with a quantizer, or another name for `load_tokenizer`.
    token_codebooks : int, optional
        Use only the first codebooks of ``tokens``.

    Returns
    -------
    Input

    Raises
    ------
    ConfigError
        If the options do not fit together.
    CheckpointError
        If the run cannot be loaded.
    """
    if pretrained and tokens:
        raise ConfigError("give one of pretrained and tokens: there is one input")
    if not pretrained and (untrained or encoder_use != "frozen"):
        raise ConfigError(
            "untrained and encoder_use are about an encoder: give its run to pretrained"
        )
    if not tokens and token_codebooks is not None:
        raise ConfigError("token_codebooks needs a run with a quantizer in tokens")
    if tokens:
        return TokenInput(load_tokenizer(tokens), width, token_codebooks)
    if not pretrained:
        return LogMelInput(front_end)
    tokenizer = load_tokenizer(pretrained)
    if untrained:
        source = EncoderInput(with_new_weights(tokenizer), encoder_use)
        source.name = f"untrained {source.name}"
        return source
    return EncoderInput(tokenizer, encoder_use)


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
