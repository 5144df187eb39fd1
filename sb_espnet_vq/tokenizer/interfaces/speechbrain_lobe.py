"""The interface of SpeechBrain's lobes of discrete tokens."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer
from sb_espnet_vq.tokenizer.interfaces import conversion


class DiscreteLobe(nn.Module):
    """Encodes and decodes like the lobe `Encodec` of SpeechBrain.

    That is ``speechbrain.integrations.huggingface.encodec.Encodec``. Padding has the
    token 0; use the lengths.

    Arguments
    ---------
    source : AudioTokenizer, str or Path
        A tokenizer, or a run, saved folder or repository.
    num_codebooks : int, optional
        Use only the first codebooks. Default: all.

    Attributes
    ----------
    sample_rate, num_heads, num_tokens, emb_dim : int
        Hz; codebooks in use; codes in each of them; dimension of an embedding.
    vocabulary : torch.Tensor
        (num_heads, num_tokens, emb_dim), the embeddings.

    Raises
    ------
    ConfigError
        If the codebooks differ in size, cannot be listed, or there are fewer.
    """

    vocabulary: Tensor

    def __init__(
        self,
        source: AudioTokenizer | str | Path,
        num_codebooks: int | None = None,
    ):
        super().__init__()
        self.tokenizer = conversion.of_source(source)
        self.sample_rate = self.tokenizer.sample_rate
        self.num_heads = len(self.tokenizer.model.sizes(num_codebooks))
        self.num_tokens = conversion.one_size(self.tokenizer, "a SpeechBrain lobe")
        vectors = self.tokenizer.codebook_vectors()[: self.num_heads]
        self.register_buffer("vocabulary", vectors, persistent=False)
        self.emb_dim = vectors.shape[2]

    def forward(self, inputs: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return what ``encode`` returns."""
        return self.encode(inputs, length)

    def encode(self, inputs: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens and their embeddings.

        Arguments
        ---------
        inputs : torch.Tensor
            (B, L) or (B, 1, L) float, audio at ``sample_rate``.
        length : torch.Tensor
            (B,) float, relative lengths.

        Returns
        -------
        tokens : torch.Tensor
            (B, T, K) int64.
        emb : torch.Tensor
            (B, T, K, D) float32; their sum over K is the quantized frame.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        signals = conversion.mono(inputs, "inputs")
        samples = conversion.absolute(length, len(signals), signals.shape[-1])
        tokens = conversion.encode(self.tokenizer, signals, samples, self.num_heads)
        return tokens, self.embeddings(tokens)

    def embeddings(self, tokens: Tensor) -> Tensor:
        """Return the embeddings (B, T, K, D) of tokens (B, T, K).

        Raises
        ------
        ShapeError, ValueError
            If tokens have a wrong shape, or one is out of range.
        """
        sizes = self.tokenizer.codebook_sizes[: self.num_heads]
        conversion.refuse_codes(tokens, sizes)
        device = self.vocabulary.device
        levels = torch.arange(tokens.shape[2], device=device)
        return self.vocabulary[levels, tokens.to(device, torch.int64)]

    def decode(self, tokens: Tensor, length: Tensor | None = None) -> Tensor:
        """Return audio.

        Arguments
        ---------
        tokens : torch.Tensor
            (B, T, K) integers.
        length : torch.Tensor, optional
            (B,) float, relative lengths. Default: no padding.

        Returns
        -------
        torch.Tensor
            (B, 1, L) float32.

        Raises
        ------
        ConfigError
            If the model is no codec.
        ShapeError, ValueError
            If tokens have a wrong shape, or one is out of range.
        """
        return conversion.decode(self.tokenizer, tokens, length)[:, None]
