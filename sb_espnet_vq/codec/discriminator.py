"""A discriminator on complex spectrograms, and the losses of training against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Judgement(NamedTuple):
    """What one resolution says of audio.

    Arguments
    ---------
    scores : torch.Tensor
        (B, 1, T, F), high where the audio seems real.
    features : list of torch.Tensor
        (B, C, T, F) activations of each layer before.
    """

    scores: Tensor
    features: list[Tensor]


class SpectralDiscriminator(nn.Module):
    """Convolutions over complex spectrograms of several window lengths.

    Defossez et al. 2022, https://arxiv.org/abs/2210.13438, section 3.4 (MS-STFT).

    Arguments
    ---------
    windows : sequence of int
        Window lengths in samples; the hop is a quarter.
    channels : int
        Of every layer.
    layers : int
        Strided ones; each halves the number of bins.

    Example
    -------
    >>> judge = SpectralDiscriminator(windows=(64, 128), channels=4)
    >>> [each.scores.shape[0] for each in judge(torch.randn(2, 2000))]
    [2, 2]
    """

    def __init__(
        self,
        windows: Sequence[int] = (128, 256, 512),
        channels: int = 16,
        layers: int = 3,
    ):
        super().__init__()
        self.windows = tuple(windows)
        for window in windows:
            shape = torch.hann_window(window)
            self.register_buffer(f"window_{window}", shape, persistent=False)
        self.stacks = nn.ModuleList(_stack(channels, layers) for _ in windows)

    def forward(self, signals: Tensor) -> list[Judgement]:
        """Judge audio.

        Arguments
        ---------
        signals : torch.Tensor
            (B, L) float.

        Returns
        -------
        list of Judgement
            One for each window.
        """
        found = []
        for window, stack in zip(self.windows, self.stacks, strict=True):
            x = self._spectrum(signals, window)
            *hidden, last = list(stack.children())
            features = []
            for layer in hidden:
                x = layer(x)
                features.append(x)
            found.append(Judgement(last(x), features))
        return found

    def _spectrum(self, signals: Tensor, window: int) -> Tensor:
        with torch.autocast(signals.device.type, enabled=False):
            spectrum = torch.stft(
                signals.float(),
                window,
                window // 4,
                window=self.get_buffer(f"window_{window}"),
                normalized=True,
                return_complex=True,
            )
        # (B, 2, T, F): real and imaginary part are channels.
        return torch.view_as_real(spectrum).permute(0, 3, 2, 1)


def judge_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """Return the discriminator's hinge loss.

    Arguments
    ---------
    real, fake : sequence of Judgement
        Of recorded audio, and of the codec's.

    Returns
    -------
    torch.Tensor
        Scalar, 2 where it cannot tell and says 0.
    """
    terms = [
        F.relu(1 - r.scores).mean() + F.relu(1 + f.scores).mean()
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def adversarial_loss(fake: Sequence[Judgement]) -> Tensor:
    """Return the codec's hinge loss: scalar, low where it seems real.

    Arguments
    ---------
    fake : sequence of Judgement
        Of the codec's audio.

    Returns
    -------
    torch.Tensor
    """
    return torch.stack([F.relu(1 - f.scores).mean() for f in fake]).mean()


def feature_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """Return how far the activations are apart, relative to their size.

    Arguments
    ---------
    real, fake : sequence of Judgement
        Of recorded audio, and of the codec's; the gradient goes to the latter.

    Returns
    -------
    torch.Tensor
        Scalar, mean over layers and resolutions.
    """
    terms = []
    for r, f in zip(real, fake, strict=True):
        for ours, theirs in zip(f.features, r.features, strict=True):
            theirs = theirs.detach()
            terms.append((ours - theirs).abs().mean() / (theirs.abs().mean() + 1e-6))
    return torch.stack(terms).mean()


def _stack(channels: int, layers: int) -> nn.ModuleList:
    """The layers for one resolution, the scores last."""
    norm = nn.utils.parametrizations.weight_norm
    found: list[nn.Module] = []
    width = 2
    for number in range(layers + 1):
        stride = (1, 2) if number else (1, 1)
        conv = nn.Conv2d(width, channels, (3, 9), stride, padding=(1, 4))
        found.append(nn.Sequential(norm(conv), nn.LeakyReLU(0.2)))
        width = channels
    found.append(norm(nn.Conv2d(channels, 1, 3, padding=1)))
    return nn.ModuleList(found)
