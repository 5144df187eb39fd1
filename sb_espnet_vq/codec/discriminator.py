"""A discriminator on complex spectrograms, and adversarial losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DiscriminatorOutput(NamedTuple):
    """Output of the discriminator at one resolution.

    Arguments
    ---------
    scores : torch.Tensor
        (B, 1, T, F), high for recorded audio.
    features : list of torch.Tensor
        (B, C, T, F) activations of each layer before the last.
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
        Channels of every layer.
    layers : int
        Number of strided layers; each halves the number of bins.

    Example
    -------
    >>> discriminator = SpectralDiscriminator(windows=(64, 128), channels=4)
    >>> [each.scores.shape[0] for each in discriminator(torch.randn(2, 2000))]
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

    def forward(self, signals: Tensor) -> list[DiscriminatorOutput]:
        """Score audio at each resolution.

        Arguments
        ---------
        signals : torch.Tensor
            (B, L) float.

        Returns
        -------
        list of DiscriminatorOutput
            One for each window.
        """
        outputs = []
        for window, stack in zip(self.windows, self.stacks, strict=True):
            x = self._spectrum(signals, window)
            *hidden, last = list(stack.children())
            features = []
            for layer in hidden:
                x = layer(x)
                features.append(x)
            outputs.append(DiscriminatorOutput(last(x), features))
        return outputs

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
        # (B, 2, T, F): real and imaginary parts as channels.
        return torch.view_as_real(spectrum).permute(0, 3, 2, 1)


def judge_loss(
    real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]
) -> Tensor:
    """Return the discriminator's hinge loss.

    Arguments
    ---------
    real, fake : sequence of DiscriminatorOutput
        For recorded and for decoded audio.

    Returns
    -------
    torch.Tensor
        Scalar; 2 if all scores are 0.
    """
    terms = [
        F.relu(1 - r.scores).mean() + F.relu(1 + f.scores).mean()
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def adversarial_loss(fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """Return the codec's hinge loss, low if the discriminator scores its audio as real.

    Arguments
    ---------
    fake : sequence of DiscriminatorOutput
        For decoded audio.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    return torch.stack([F.relu(1 - f.scores).mean() for f in fake]).mean()


def feature_loss(
    real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]
) -> Tensor:
    """Return the feature matching loss: mean absolute difference of activations.

    Each layer's difference is relative to the mean magnitude of its activations.

    Arguments
    ---------
    real, fake : sequence of DiscriminatorOutput
        For recorded and for decoded audio; only the latter gets a gradient.

    Returns
    -------
    torch.Tensor
        Scalar, mean over layers and resolutions.
    """
    terms = []
    for r, f in zip(real, fake, strict=True):
        for got, expected in zip(f.features, r.features, strict=True):
            expected = expected.detach()
            scale = expected.abs().mean() + 1e-6
            terms.append((got - expected).abs().mean() / scale)
    return torch.stack(terms).mean()


def _stack(channels: int, layers: int) -> nn.ModuleList:
    """Return the layers for one resolution; the last one computes the scores."""
    norm = nn.utils.parametrizations.weight_norm
    stack: list[nn.Module] = []
    width = 2
    for number in range(layers + 1):
        stride = (1, 2) if number else (1, 1)
        conv = nn.Conv2d(width, channels, (3, 9), stride, padding=(1, 4))
        stack.append(nn.Sequential(norm(conv), nn.LeakyReLU(0.2)))
        width = channels
    stack.append(norm(nn.Conv2d(channels, 1, 3, padding=1)))
    return nn.ModuleList(stack)
