"""Spectrogram, classifier and interpreter of PIQ.

Paissan et al. 2023, "Posthoc Interpretation via Quantization",
https://arxiv.org/abs/2303.12659.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.lobes.models.PIQ import Conv2dEncoder_v2, VectorQuantizedPSI_Audio
from sb_espnet_vq.lobes.quantizers.dictionary import DictionaryQuantizer

# The encoder halves both axes four times and the adapter once, and the sizes of the
# decoder's output are multiples of 32 plus 1. Only such sizes are preserved.
_STRIDE = 32


class Spectrogram:
    """Converts sounds to spectrograms of a fixed size, and back.

    `n_fft`, `win_length` and `hop_length` are in samples (short-time Fourier transform,
    Hann window); sounds are padded or cut to `frames`. Sizes that do not fit the
    interpreter's mask raise ConfigError.
    """

    def __init__(self, n_fft: int, win_length: int, hop_length: int, frames: int):
        if n_fft < 2 * _STRIDE or n_fft % (2 * _STRIDE):
            raise ConfigError(f"n_fft must be a multiple of 64, not {n_fft}")
        if frames < _STRIDE or frames % _STRIDE != 1:
            raise ConfigError(
                f"frames must be a multiple of 32 and one more (33, 65, ...), not "
                f"{frames}"
            )
        if not 0 < hop_length < win_length <= n_fft:
            raise ConfigError(
                f"hop_length {hop_length} must be below win_length {win_length}, and "
                f"that not above n_fft {n_fft}"
            )
        self.n_fft, self.win_length, self.hop_length = n_fft, win_length, hop_length
        self.frames, self.samples = frames, (frames - 1) * hop_length

    def __call__(self, signals: Tensor) -> Tensor:
        """Return log(1 + magnitude), (B, frames, n_fft / 2 + 1), of signals (B, L)."""
        return self.transform(signals).abs().log1p()

    def transform(self, signals: Tensor) -> Tensor:
        """Return the complex transform, (B, frames, n_fft / 2 + 1)."""
        signals = F.pad(signals, (0, max(0, self.samples - signals.shape[1])))
        transform = torch.stft(
            signals[:, : self.samples],
            **self._options(signals),
            pad_mode="constant",
            return_complex=True,
        )
        return transform.transpose(1, 2)

    def invert(self, transform: Tensor) -> Tensor:
        """Return the sound (B, samples) of a complex transform."""
        options = self._options(transform.real)
        return torch.istft(transform.transpose(1, 2), **options, length=self.samples)

    def _options(self, like: Tensor) -> dict[str, Any]:
        window = torch.hann_window(self.win_length, device=like.device)
        sizes = {"n_fft": self.n_fft, "win_length": self.win_length}
        return sizes | {"hop_length": self.hop_length, "window": window}


class SoundClassifier(nn.Module):
    """Classifier: convolutions, a mean over time and frequency, and a linear layer."""

    def __init__(self, dim: int, n_classes: int):
        super().__init__()
        self.encoder = Conv2dEncoder_v2(dim)
        self.head = nn.Linear(dim, n_classes)

    def forward(self, spectrograms: Tensor) -> tuple[Tensor, Tensor]:
        """Return representation (B, dim, T // 16, F // 16) and logits (B, n)."""
        representation = self.encoder(spectrograms)
        return representation, self.head(representation.mean((2, 3)))


class Interpretation(NamedTuple):
    """The output of the interpreter for a representation."""

    logits: Tensor  # (B, T, F), of the mask
    vectors: Tensor  # (B, dim, H, W), before quantization
    keys: Tensor  # (B, dim, H, W), quantized, with gradient to the dictionary

    @property
    def mask(self) -> Tensor:
        """(B, T, F) in [0, 1]: 1 at regions that are relevant for the classifier."""
        return self.logits.sigmoid()


class Interpreter(nn.Module):
    """Decodes a mask from the quantized representation of a frozen classifier.

    Arguments
    ---------
    dim : int
        Channels of the representation.
    codebook_size : int
        Number of codebook vectors.
    n_classes : int
        Number of classes.
    shared_keys : int
        Number of codebook vectors that belong to no class.
    quantizer : str
        A registered name (`sbvq ls families`). With `class_partitioned`, each class has
        its own codebook vectors, as in the paper.
    quantizer_conf : dict, optional
        Options of the quantizer.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        n_classes: int,
        shared_keys: int = 0,
        quantizer: str = "class_partitioned",
        quantizer_conf: dict[str, Any] | None = None,
    ):
        super().__init__()
        sizes = {"dim": dim, "K": codebook_size, "numclasses": n_classes}
        self.psi = VectorQuantizedPSI_Audio(**sizes, shared_keys=shared_keys)
        self.psi.codebook = DictionaryQuantizer(
            codebook_size,
            dim,
            n_classes,
            shared_keys=shared_keys,
            quantizer=quantizer,
            quantizer_conf=quantizer_conf,
        )

    def forward(self, representation: Tensor, classes: Tensor) -> Interpretation:
        """Interpret representations (B, dim, H, W) of the given classes (B,)."""
        decoded, vectors, keys = self.psi(representation, classes)
        return Interpretation(decoded[:, 0], vectors, keys)

    def codes(self, vectors: Tensor, classes: Tensor) -> Tensor:
        """Return the code of each vector, (B, H, W), or (B, H, W, K) of K codebooks."""
        return self.psi.codebook(vectors, classes)
