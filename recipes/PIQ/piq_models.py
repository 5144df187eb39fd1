"""The spectrogram, the classifier and the interpreter of PIQ.

Paissan et al. 2023, "Posthoc Interpretation via Quantization",
https://arxiv.org/abs/2303.12659.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.lobes.models.PIQ import Conv2dEncoder_v2, VectorQuantizedPSI_Audio
from sb_espnet_vq.lobes.quantizers.dictionary import DictionaryQuantizer

# The encoder halves four times and the adapter once; the way back makes one more than
# it started from, so only axes of so many times 32 and one more come back whole.
_STRIDE = 32


class Spectrogram:
    """Turns sounds into pictures of one size, and back.

    Arguments
    ---------
    n_fft, win_length, hop_length : int
        Of the short-time Fourier transform (Hann window), in samples.
    frames : int
        Sounds are padded or cut to so many frames.

    Raises
    ------
    ConfigError
        A size that the interpreter cannot make a mask of.
    """

    def __init__(self, n_fft, win_length, hop_length, frames):
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

    def __call__(self, signals):
        """Return log(1 + magnitude), which the classifier hears.

        Arguments
        ---------
        signals : torch.Tensor
            (B, L) float32.

        Returns
        -------
        torch.Tensor
            (B, frames, n_fft / 2 + 1) float32.
        """
        return self.transform(signals).abs().log1p()

    def transform(self, signals):
        """Return the complex transform.

        Arguments
        ---------
        signals : torch.Tensor
            (B, L) float32.

        Returns
        -------
        torch.Tensor
            (B, frames, n_fft / 2 + 1) complex64.
        """
        signals = F.pad(signals, (0, max(0, self.samples - signals.shape[1])))
        found = torch.stft(
            signals[:, : self.samples],
            **self._options(signals),
            pad_mode="constant",
            return_complex=True,
        )
        return found.transpose(1, 2)

    def invert(self, transform):
        """Return the sound of a complex transform.

        Arguments
        ---------
        transform : torch.Tensor
            (B, frames, n_fft / 2 + 1) complex64.

        Returns
        -------
        torch.Tensor
            (B, samples) float32.
        """
        options = self._options(transform.real)
        return torch.istft(transform.transpose(1, 2), **options, length=self.samples)

    def _options(self, like):
        window = torch.hann_window(self.win_length, device=like.device)
        sizes = {"n_fft": self.n_fft, "win_length": self.win_length}
        return sizes | {"hop_length": self.hop_length, "window": window}


class SoundClassifier(nn.Module):
    """Convolutions, a mean over time and frequency, and a linear layer.

    Arguments
    ---------
    dim : int
        Channels.
    n_classes : int
        Classes.
    """

    def __init__(self, dim, n_classes):
        super().__init__()
        self.encoder = Conv2dEncoder_v2(dim)
        self.head = nn.Linear(dim, n_classes)

    def forward(self, spectrograms):
        """Classify.

        Arguments
        ---------
        spectrograms : torch.Tensor
            (B, T, F), from `Spectrogram`.

        Returns
        -------
        representation : torch.Tensor
            (B, dim, T // 16, F // 16).
        logits : torch.Tensor
            (B, n_classes).
        """
        representation = self.encoder(spectrograms)
        return representation, self.head(representation.mean((2, 3)))


class Interpretation(NamedTuple):
    """What the interpreter makes of a representation.

    logits : (B, T, F), of the mask; vectors, keys : (B, dim, H, W), what was
    quantized and what it became, with gradient to the dictionary.
    """

    logits: torch.Tensor
    vectors: torch.Tensor
    keys: torch.Tensor

    @property
    def mask(self):
        """(B, T, F) in [0, 1]: 1 where the classifier is said to have listened."""
        return self.logits.sigmoid()


class Interpreter(nn.Module):
    """Makes a mask out of a frozen representation, by way of keys that classes share.

    Arguments
    ---------
    dim : int
        Channels of the representation.
    codebook_size : int
        Keys in the dictionary.
    n_classes : int
        Classes.
    shared_keys : int
        Keys that belong to no class.
    quantizer : str
        Any family that `sbvq ls` lists. `class_partitioned` gives every class keys of
        its own, as in the paper.
    quantizer_conf : dict, optional
        Its options.
    """

    def __init__(
        self,
        dim,
        codebook_size,
        n_classes,
        shared_keys=0,
        quantizer="class_partitioned",
        quantizer_conf=None,
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

    def forward(self, representation, classes):
        """Interpret.

        Arguments
        ---------
        representation : torch.Tensor
            (B, dim, H, W), from the classifier.
        classes : torch.Tensor
            (B,) int64, what the classifier said.

        Returns
        -------
        Interpretation
        """
        decoded, vectors, keys = self.psi(representation, classes)
        return Interpretation(decoded[:, 0], vectors, keys)

    def codes(self, vectors, classes):
        """Number of the key that each vector becomes.

        Arguments
        ---------
        vectors : torch.Tensor
            (B, dim, H, W), of an `Interpretation`.
        classes : torch.Tensor
            (B,) int64.

        Returns
        -------
        torch.Tensor
            (B, H, W) int64, or (B, H, W, K) of several codebooks.
        """
        return self.psi.codebook(vectors, classes)
