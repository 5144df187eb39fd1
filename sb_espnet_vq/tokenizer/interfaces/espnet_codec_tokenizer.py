"""The interface of ``CodecTokenizer`` in ESPnet's speech language models."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer
from sb_espnet_vq.tokenizer.interfaces import conversion


class ESPnetCodecTokenizer(nn.Module):
    """Has the methods for tokens of the ``CodecTokenizer`` in ``espnet2.speechlm``.

    For models that ESPnet does not have; ``sbvq export --to espnet`` gives what its own
    class loads. It has no lengths: rows of a batch have no padding.

    Arguments
    ---------
    source : AudioTokenizer, str or Path
        A tokenizer, or a run, saved folder or repository.
    dump_audio : bool
        Whether a call also decodes.
    max_token_per_frame : int
        Use at most so many codebooks, the first ones.

    Attributes
    ----------
    n_codebook, size_codebook, sample_rate, subsample : int
        Codebooks in use; codes in each; Hz; samples per frame.

    Raises
    ------
    ConfigError
        If the codebooks differ in size.
    """

    def __init__(
        self,
        source: AudioTokenizer | str | Path,
        dump_audio: bool = False,
        max_token_per_frame: int = 32,
    ):
        super().__init__()
        self.tokenizer = conversion.of_source(source)
        self.dump_audio = dump_audio
        most = len(self.tokenizer.codebook_sizes)
        used = self.tokenizer.model.sizes(min(most, max_token_per_frame))
        self.n_codebook = len(used)
        self.size_codebook = conversion.one_size(self.tokenizer, "ESPnet")
        self.sample_rate = self.tokenizer.sample_rate
        self.subsample = self.tokenizer.model.hop

    def encode(self, wavs: Tensor) -> Tensor:
        """Return the tokens (B, T, n_codebook) int64 of audio (B, 1, L).

        Raises
        ------
        ShapeError
            If the shape or dtype is wrong.
        """
        if len(wavs.shape) != 3 or wavs.shape[1] != 1:
            raise ShapeError(f"wavs must be (B, 1, L), got {tuple(wavs.shape)}")
        used = self.n_codebook
        return conversion.encode(self.tokenizer, wavs[:, 0], None, used)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the audio (B, L) of tokens (B, T, K).

        Raises
        ------
        ConfigError
            If the model is no codec.
        ShapeError, ValueError
            If tokens have a wrong shape, or one is out of range.
        """
        return conversion.decode(self.tokenizer, codes, None)

    def forward(self, wavs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return tokens as a language model reads them, and the decoded audio.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, 1, L) float.

        Returns
        -------
        codes : torch.Tensor
            (B, T * n_codebook) int32, frame by frame, with codebook k offset by k times
            its size.
        audio : torch.Tensor, optional
            (B, L) float32, with ``dump_audio``.

        Raises
        ------
        ShapeError
            If the shape or dtype is wrong.
        """
        codes = self.encode(wavs)
        audio = self.decode(codes) if self.dump_audio else None
        return (codes + self._offsets(codes)).int().flatten(1), audio

    def detokenize(self, codes: Tensor, n_codebook: int | None = None) -> Tensor:
        """Return the audio of tokens as a language model writes them.

        Arguments
        ---------
        codes : torch.Tensor
            (B, T * n_codebook) or (T * n_codebook,) integers with offsets.
        n_codebook : int, optional
            Codebooks of the tokens. Default: those in use.

        Returns
        -------
        torch.Tensor
            (B, L) or (L,) float32.

        Raises
        ------
        ConfigError
            If the model is no codec, or has fewer codebooks.
        ShapeError, ValueError
            If tokens have a wrong shape, or one is none of its codebook.
        """
        wanted = self.n_codebook if n_codebook is None else n_codebook
        used = len(self.tokenizer.model.sizes(wanted))
        if codes.dim() not in (1, 2) or codes.shape[-1] % used:
            raise ShapeError(
                f"codes must be (B, T * {used}) or (T * {used},), got "
                f"{tuple(codes.shape)}"
            )
        rows = codes[None] if codes.dim() == 1 else codes
        frames = rows.unflatten(1, (-1, used))
        audio = self.decode(frames - self._offsets(frames))
        return audio[0] if codes.dim() == 1 else audio

    def _offsets(self, codes: Tensor) -> Tensor:
        levels = torch.arange(codes.shape[2], device=codes.device)
        return levels * self.size_codebook
