"""The interface of the audiocodecs package."""

from __future__ import annotations

from pathlib import Path

from audiocodecs import Codec
from torch import Tensor

from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer
from sb_espnet_vq.tokenizer.interfaces import conversion


class AudioCodecsCodec(Codec):
    """A codec of audiocodecs, whose downstream tasks and metrics then take the model.

    The base class resamples from ``sample_rate`` to that of the model, and back.
    Padding has the token 0; use the lengths.

    Arguments
    ---------
    source : AudioTokenizer, str or Path
        A tokenizer, or a run, saved folder or repository.
    sample_rate : int, optional
        Of the audio, in Hz. Default: that of the model.
    mode : str
        ``encode``, ``decode`` or ``reconstruct``: what a call of the module does.
    num_codebooks : int, optional
        Use only the first codebooks. Default: all.

    Raises
    ------
    ConfigError
        If the codebooks differ in size, or there are fewer.
    """

    def __init__(
        self,
        source: AudioTokenizer | str | Path,
        sample_rate: int | None = None,
        mode: str = "reconstruct",
        num_codebooks: int | None = None,
    ):
        tokenizer = conversion.of_source(source)
        own = tokenizer.sample_rate
        super().__init__(own if sample_rate is None else sample_rate, own, mode)
        self.tokenizer = tokenizer
        self.num_codebooks = len(tokenizer.model.sizes(num_codebooks))
        self.vocab_size = conversion.one_size(tokenizer, "audiocodecs")

    def embs(self) -> Tensor:
        """Return the codebook vectors (K, C, H)."""
        return self.tokenizer.codebook_vectors()[: self.num_codebooks]

    def _sig_to_toks(self, sig: Tensor, length: Tensor) -> Tensor:
        samples = conversion.absolute(length, len(sig), sig.shape[-1])
        return conversion.encode(self.tokenizer, sig, samples, self.num_codebooks)

    def _sig_to_feats(self, sig: Tensor, length: Tensor) -> Tensor:
        samples = conversion.absolute(length, len(sig), sig.shape[-1])
        return self.tokenizer.features(sig, samples)[0]

    def _sig_to_qfeats(self, sig: Tensor, length: Tensor) -> Tensor:
        samples = conversion.absolute(length, len(sig), sig.shape[-1])
        codes, _ = self.tokenizer.encode(sig, samples, self.num_codebooks)
        return self.tokenizer.model.quantizer.decode(codes)

    def _toks_to_sig(self, toks: Tensor, length: Tensor) -> Tensor:
        return conversion.decode(self.tokenizer, toks, length)

    def _toks_to_qfeats(self, toks: Tensor, length: Tensor) -> Tensor:
        conversion.refuse_codes(toks, self.tokenizer.codebook_sizes)
        return self.tokenizer.model.quantizer.decode(toks)
