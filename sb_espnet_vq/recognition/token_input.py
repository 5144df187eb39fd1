"""Tokens as the input of a recognizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.recognition.base import Input
from sb_espnet_vq.ssl.front_ends import StackFrames

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer


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
    stack : int
        Frames of tokens whose embeddings are concatenated to one frame: codecs have
        more frames per second than a recognizer needs.

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
        stack: int = 1,
    ):
        super().__init__()
        self.tokenizer, self.n_codebooks = tokenizer, n_codebooks
        self.sample_rate, self.width = tokenizer.sample_rate, width * stack
        self.stack_frames = StackFrames(stack)
        sizes = tokenizer.model.sizes(n_codebooks)
        self.name = f"tokens of {len(sizes)} codebooks"
        # Each codebook has a row more, for a frame without a code (-1).
        rows = torch.tensor([size + 1 for size in sizes])
        self.embedding = nn.Embedding(int(rows.sum()), width)
        self.register_buffer("first", rows.cumsum(0) - rows, persistent=False)

    def prepare(self, signal: Tensor) -> Tensor:
        """Return the tokens (T, K) of a signal (L,); at least one frame."""
        signal = signal[None].to(self.embedding.weight.device)
        codes, _ = self.tokenizer.encode(signal, n_codebooks=self.n_codebooks)
        return F.pad(codes[0], (0, 0, 0, int(codes.shape[1] == 0)), value=-1).cpu()

    def forward(self, signals: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings of tokens (B, T, K)."""
        frames = self.embedding(signals + 1 + self.first).sum(2)
        # The last stack may have frames of the padding.
        valid = torch.arange(frames.shape[1], device=frames.device) < samples[:, None]
        stacked = self.stack_frames(frames * valid[..., None]).flatten(2)
        return stacked, -(-samples // self.stack_frames.stack)
