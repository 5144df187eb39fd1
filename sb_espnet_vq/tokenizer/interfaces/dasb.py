"""The interface of the tokenizers of DASB, the discrete audio and speech benchmark.

Mousavi et al. 2024, https://arxiv.org/abs/2406.14294.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer
from sb_espnet_vq.tokenizer.interfaces import conversion


class DASBTokenizer(nn.Module):
    """Has the methods of DASB's ``BaseTokenizer``.

    ``num_codebooks`` is a number (the first ones) or a list of indices from 0. Padding
    has the token 0, which DASB's embedding layer takes; use the lengths.

    Arguments
    ---------
    source : AudioTokenizer, str or Path
        A tokenizer, or a run, saved folder or repository.
    """

    def __init__(self, source: AudioTokenizer | str | Path):
        super().__init__()
        self.tokenizer = conversion.of_source(source)
        self.sample_rate = self.tokenizer.sample_rate

    def sig_to_tokens(
        self,
        signal: Tensor,
        lengths: Tensor | None = None,
        num_codebooks: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Return the tokens of audio.

        Arguments
        ---------
        signal : torch.Tensor
            (B, L) float, at ``sample_rate``.
        lengths : torch.Tensor, optional
            (B,) float, relative lengths. Default: no padding.
        num_codebooks : int or list of int, optional
            Codebooks to use. Default: all.

        Returns
        -------
        torch.Tensor
            (B, N, K) int64.

        Raises
        ------
        ConfigError
            If there is no such codebook.
        ShapeError
            If a shape or dtype is wrong.
        """
        used = self._used(num_codebooks)
        samples = conversion.absolute(lengths, len(signal), signal.shape[-1])
        most = max(used) + 1
        tokens = conversion.encode(self.tokenizer, signal, samples, most)
        return tokens[..., used]

    def tokens_to_sig(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        num_codebooks: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Return the audio of tokens.

        Arguments
        ---------
        tokens : torch.Tensor
            (B, N, K) integers.
        lengths : torch.Tensor, optional
            (B,) float, relative lengths. Default: no padding.
        num_codebooks : int or list of int, optional
            Codebooks of the tokens. Default: the first K.

        Returns
        -------
        torch.Tensor
            (B, L) float32.

        Raises
        ------
        ConfigError
            If the model is no codec, or there is no such codebook.
        ShapeError, ValueError
            If tokens have a wrong shape, or one is out of range.
        """
        sizes = self.tokenizer.codebook_sizes
        if num_codebooks is not None:
            sizes = tuple(sizes[k] for k in self._used(num_codebooks))
        conversion.refuse_codes(tokens, sizes)
        used = self._used(tokens.shape[2] if num_codebooks is None else num_codebooks)
        if len(used) != tokens.shape[2]:
            raise ConfigError(
                f"tokens have {tokens.shape[2]} codebooks, but num_codebooks is "
                f"{num_codebooks}"
            )
        if used == list(range(len(used))):
            return conversion.decode(self.tokenizer, tokens, lengths)
        # The other codebooks contribute 0.
        shape = (*tokens.shape[:2], max(used) + 1)
        codes = tokens.new_full(shape, -1, dtype=torch.int64)
        codes[..., used] = tokens.long()
        frames = conversion.absolute(lengths, len(tokens), tokens.shape[1], up=True)
        return self.tokenizer.decode(codes, frames)

    def get_pretrained_embeddings(
        self,
        vocab_size: int | None = None,
        num_codebooks: int | Sequence[int] | None = None,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """Return the codebook vectors, to initialize an embedding layer.

        Arguments
        ---------
        vocab_size : int, optional
            Codes in each codebook, as a check.
        num_codebooks : int or list of int, optional
            Codebooks to use. Default: all.
        device : str or torch.device, optional
            Of the result. Default: that of the model.

        Returns
        -------
        torch.Tensor
            (K * vocab_size, D) float32, codebook by codebook.

        Raises
        ------
        ConfigError
            If the codebooks have another size, or there is no such codebook.
        """
        size = conversion.one_size(self.tokenizer, "DASB")
        if vocab_size not in (None, size):
            raise ConfigError(f"vocab_size must be {size} here, got {vocab_size}")
        vectors = self.tokenizer.codebook_vectors()[self._used(num_codebooks)]
        return vectors.flatten(0, 1).to(device)

    def _used(self, num_codebooks: int | Sequence[int] | None) -> list[int]:
        """Return the indices of the codebooks."""
        most = len(self.tokenizer.codebook_sizes)
        number = most if num_codebooks is None else num_codebooks
        indices = range(number) if isinstance(number, int) else number
        used = [*indices] if isinstance(indices, Sequence) else []
        if not used or len({*used} & {*range(most)}) != len(used):
            raise ConfigError(
                f"num_codebooks must be in [1, {most}], or a list of different "
                f"codebooks in [0, {most - 1}]; got {num_codebooks}"
            )
        return used
