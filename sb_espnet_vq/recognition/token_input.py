"""Tokens as the input of a recognizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from sb_espnet_vq.recognition.base import Input
from sb_espnet_vq.recognition.token_frames import (
    CodebookValues,
    LearnedEmbeddings,
    TokenFrames,
)
from sb_espnet_vq.ssl.front_ends import StackFrames
from sb_espnet_vq.utils.speech_batch import SpeechBatch

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer


class TokenInput(Input):
    """Frames of tokens. Every utterance is encoded once.

    Arguments
    ---------
    tokenizer : AudioTokenizer
        Makes the tokens.
    width : int
        Size of a frame of tokens.
    n_codebooks : int, optional
        Use only the first codebooks. Default: all.
    stack : int
        Frames of tokens that are concatenated to one: codecs have more frames per
        second than a recognizer needs.
    embedding : str
        ``codebook``: the values of the quantizer (`CodebookValues`). ``learned``:
        `LearnedEmbeddings`.

    Raises
    ------
    ConfigError
        If there are fewer codebooks.
    """

    in_memory = True

    def __init__(
        self,
        tokenizer: AudioTokenizer,
        width: int = 128,
        n_codebooks: int | None = None,
        stack: int = 1,
        embedding: str = "codebook",
    ):
        super().__init__()
        self.tokenizer, self.n_codebooks = tokenizer, n_codebooks
        self.sample_rate, self.width = tokenizer.sample_rate, width * stack
        self.stack_frames = StackFrames(stack)
        sizes = tokenizer.model.sizes(n_codebooks)
        self.name = f"tokens of {len(sizes)} codebooks"
        self.frames: TokenFrames
        if embedding == "codebook":
            self.frames = CodebookValues(tokenizer.model.quantizer, width)
        else:
            self.frames = LearnedEmbeddings(sizes, width)
            self.name += ", learned embeddings"

    def prepare(self, signal: Tensor) -> Tensor:
        """Return the tokens (T, K) of a signal (L,); at least one frame."""
        signals = signal[None].to(self._device())
        codes, _ = self.tokenizer.encode(signals, n_codebooks=self.n_codebooks)
        return F.pad(codes[0], (0, 0, 0, int(codes.shape[1] == 0)), value=-1).cpu()

    def gather(self, batches: Iterable[SpeechBatch]) -> None:
        """Collect statistics of the tokens, if any are needed."""
        device = self._device()
        self.frames.gather(
            each.signals[_valid(each.signals, each.samples)].to(device)
            for each in batches
        )

    def forward(self, signals: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames of tokens (B, T, K)."""
        # The last stack may have frames of the padding.
        frames = self.frames(signals) * _valid(signals, samples)[..., None]
        stacked = self.stack_frames(frames).flatten(2)
        return stacked, -(-samples // self.stack_frames.stack)

    def _device(self) -> torch.device:
        return next(self.frames.parameters()).device


def _valid(signals: Tensor, samples: Tensor) -> Tensor:
    """Return which frames of (B, T, K) are no padding, (B, T) bool."""
    steps = torch.arange(signals.shape[1], device=signals.device)
    return steps < samples[:, None]
