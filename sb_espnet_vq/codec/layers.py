"""Convolutional layers of the codec, centred or causal.

The frames of a causal layer depend on no later ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualUnit(nn.Module):
    """A dilated convolution that halves the channels and one that restores them.

    Arguments
    ---------
    channels : int
        Input and output channels.
    dilation : int
        Dilation of the first convolution.
    causal : bool
        Whether it depends on no later frames.

    Example
    -------
    >>> ResidualUnit(channels=4)(torch.randn(1, 4, 9)).shape
    torch.Size([1, 4, 9])
    """

    def __init__(self, channels: int, dilation: int = 1, causal: bool = False):
        super().__init__()
        hidden = max(1, channels // 2)
        self.layers = nn.Sequential(
            nn.ELU(),
            convolution(channels, hidden, 3, causal, dilation),
            nn.ELU(),
            nn.Conv1d(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, T) of (B, channels, T)."""
        return x + self.layers(x)


class Down(nn.Module):
    """Convolution of stride r and kernel size 2r: T to T / r, T a multiple of r."""

    def __init__(self, channels: int, ratio: int, causal: bool):
        super().__init__()
        self.margin = (ratio, 0) if causal else (ratio // 2, ratio - ratio // 2)
        self.conv = nn.Conv1d(channels, 2 * channels, 2 * ratio, ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 2 * channels, T / r) of (B, channels, T)."""
        return self.conv(F.pad(x, self.margin))


class Up(nn.Module):
    """Transposed convolution of stride r and kernel size 2r: T to T * r."""

    def __init__(self, channels: int, ratio: int, causal: bool):
        super().__init__()
        self.margin = (0, ratio) if causal else (ratio // 2, ratio - ratio // 2)
        self.conv = nn.ConvTranspose1d(channels, channels // 2, 2 * ratio, ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels / 2, T * r) of (B, channels, T)."""
        left, right = self.margin
        return self.conv(x)[..., left:-right]


class _CausalConv1d(nn.Conv1d):
    """Convolution of stride 1 with all padding before the first frame."""

    def forward(self, x: Tensor) -> Tensor:
        past = self.dilation[0] * (self.kernel_size[0] - 1)
        return super().forward(F.pad(x, (past, 0)))


def convolution(
    channels: int, out: int, kernel_size: int, causal: bool, dilation: int = 1
) -> nn.Conv1d:
    """Return a convolution that keeps the length."""
    if causal:
        return _CausalConv1d(channels, out, kernel_size, dilation=dilation)
    width = dilation * (kernel_size - 1) // 2
    return nn.Conv1d(channels, out, kernel_size, padding=width, dilation=dilation)


def keep_variance(module: nn.Module) -> None:
    """Initialize a layer so that it preserves the variance of its input.

    torch's default initialization reduces the variance in every layer, so that initial
    frames hardly differ and a codebook initialized from them collapses.
    """
    if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
        taps = module.kernel_size[0]
        if isinstance(module, nn.ConvTranspose1d):
            # Each output sample depends on kernel_size / stride taps.
            taps //= module.stride[0]
        nn.init.normal_(module.weight, std=(module.in_channels * taps) ** -0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def clear(x: Tensor, frames: Tensor | None, per_frame: int) -> Tensor:
    """Set (B, C, T) to zero from position frames * per_frame of each row."""
    if frames is None:
        return x
    valid = torch.arange(x.shape[2], device=x.device) < (frames * per_frame)[:, None]
    return x * valid[:, None]
