"""Convolutional waveform encoder and decoder, based on SEANet.

Tagliasacchi et al. 2020, https://arxiv.org/abs/2009.02095; in the form used for codecs
since SoundStream (Zeghidour et al. 2021, sections III-A and III-B).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError, ShapeError
from sb_espnet_vq.quantizers.options import positive_int


class ConvEncoder(nn.Module):
    """Encodes audio to frames by residual units and strided convolutions.

    Padding does not affect the frames of an utterance: the output of every layer is set
    to zero beyond its end.

    Arguments
    ---------
    dim : int
        Dimension of the frames.
    channels : int
        Channels of the first convolution; each strided convolution doubles them.
    ratios : sequence of int
        Strides, in order. Their product is the hop size in samples.
    residual_units : int
        Number of residual units before each strided convolution, with dilations 1, 3,
        9, ...
    kernel_size : int
        Kernel size of the first and the last convolution, odd.

    Raises
    ------
    ConfigError
        If a number is out of range.

    Example
    -------
    >>> encoder = ConvEncoder(dim=8, channels=4, ratios=(4, 5))
    >>> encoder(torch.randn(2, 810)).shape, encoder.hop
    (torch.Size([2, 41, 8]), 20)
    """

    def __init__(
        self,
        dim: int = 128,
        channels: int = 32,
        ratios: Sequence[int] = (2, 4, 5, 8),
        residual_units: int = 1,
        kernel_size: int = 7,
    ):
        super().__init__()
        _check(dim, channels, ratios, residual_units, kernel_size)
        self.hop = math.prod(ratios)
        layers: list[nn.Module] = [_conv(1, channels, kernel_size)]
        self.strides = [1]
        for ratio in ratios:
            for unit in range(residual_units):
                layers.append(ResidualUnit(channels, 3**unit))
                self.strides.append(self.strides[-1])
            layers.append(nn.Sequential(nn.ELU(), _Down(channels, ratio)))
            self.strides.append(self.strides[-1] * ratio)
            channels *= 2
        layers.append(nn.Sequential(nn.ELU(), _conv(channels, dim, kernel_size)))
        self.strides.append(self.hop)
        self.layers = nn.ModuleList(layers)
        self.apply(_keep_variance)

    def forward(self, signals: Tensor, samples: Tensor | None = None) -> Tensor:
        """Encode audio.

        Arguments
        ---------
        signals : torch.Tensor
            (B, L) float.
        samples : torch.Tensor, optional
            (B,) int64, number of valid samples of each row; by default all.

        Returns
        -------
        torch.Tensor
            (B, T, dim), T = L / hop, rounded up; zeros beyond the end of an utterance.

        Raises
        ------
        ShapeError
            If the signals are not (B, L) with L above 0.
        """
        if signals.dim() != 2 or signals.shape[1] == 0:
            raise ShapeError(
                "ConvEncoder: signals must be (B, L) with L above 0, got "
                f"{tuple(signals.shape)}"
            )
        length = signals.shape[1]
        x = F.pad(signals, (0, -length % self.hop))[:, None]
        if samples is not None:
            x = x * (torch.arange(x.shape[2], device=x.device) < samples[:, None, None])
        frames = None if samples is None else -(-samples // self.hop)
        for layer, stride in zip(self.layers, self.strides, strict=True):
            x = _clear(layer(x), frames, self.hop // stride)
        return x.transpose(1, 2)


class ConvDecoder(nn.Module):
    """Decodes frames to audio; mirrors the layers of `ConvEncoder`.

    Arguments
    ---------
    dim, channels, ratios, residual_units, kernel_size
        The arguments of the encoder, with ratios in the same order.

    Raises
    ------
    ConfigError
        If a number is out of range.

    Example
    -------
    >>> decoder = ConvDecoder(dim=8, channels=4, ratios=(4, 5))
    >>> decoder(torch.randn(2, 41, 8)).shape
    torch.Size([2, 820])
    """

    def __init__(
        self,
        dim: int = 128,
        channels: int = 32,
        ratios: Sequence[int] = (2, 4, 5, 8),
        residual_units: int = 1,
        kernel_size: int = 7,
    ):
        super().__init__()
        _check(dim, channels, ratios, residual_units, kernel_size)
        self.hop = math.prod(ratios)
        channels *= 2 ** len(ratios)
        layers: list[nn.Module] = [_conv(dim, channels, kernel_size)]
        self.strides = [self.hop]
        for ratio in reversed(ratios):
            layers.append(nn.Sequential(nn.ELU(), _Up(channels, ratio)))
            self.strides.append(self.strides[-1] // ratio)
            channels //= 2
            for unit in range(residual_units):
                layers.append(ResidualUnit(channels, 3**unit))
                self.strides.append(self.strides[-1])
        layers.append(nn.Sequential(nn.ELU(), _conv(channels, 1, kernel_size)))
        self.strides.append(1)
        self.layers = nn.ModuleList(layers)
        self.apply(_keep_variance)

    def forward(self, frames: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """Decode frames.

        Arguments
        ---------
        frames : torch.Tensor
            (B, T, dim) float.
        n_frames : torch.Tensor, optional
            (B,) int64, number of valid frames of each row; by default all.

        Returns
        -------
        torch.Tensor
            (B, T * hop), zeros beyond the last frame of an utterance.
        """
        x = _clear(frames.transpose(1, 2), n_frames, 1)
        for layer, stride in zip(self.layers, self.strides, strict=True):
            x = _clear(layer(x), n_frames, self.hop // stride)
        return x[:, 0]


class ResidualUnit(nn.Module):
    """A dilated convolution that halves the channels and one that restores them.

    Arguments
    ---------
    channels : int
        Input and output channels.
    dilation : int
        Dilation of the first convolution.

    Example
    -------
    >>> ResidualUnit(channels=4)(torch.randn(1, 4, 9)).shape
    torch.Size([1, 4, 9])
    """

    def __init__(self, channels: int, dilation: int = 1):
        super().__init__()
        hidden = max(1, channels // 2)
        self.layers = nn.Sequential(
            nn.ELU(),
            _conv(channels, hidden, 3, dilation),
            nn.ELU(),
            nn.Conv1d(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, T) of (B, channels, T)."""
        return x + self.layers(x)


class _Down(nn.Module):
    """Convolution of stride r and kernel size 2r: T to T / r, T a multiple of r."""

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        self.margin = (ratio // 2, ratio - ratio // 2)
        self.conv = nn.Conv1d(channels, 2 * channels, 2 * ratio, ratio)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, self.margin))


class _Up(nn.Module):
    """Transposed convolution of stride r and kernel size 2r: T to T * r."""

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        self.margin = (ratio // 2, ratio - ratio // 2)
        self.conv = nn.ConvTranspose1d(channels, channels // 2, 2 * ratio, ratio)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.margin
        return self.conv(x)[..., left:-right]


def _conv(channels: int, out: int, kernel_size: int, dilation: int = 1) -> nn.Conv1d:
    width = dilation * (kernel_size - 1) // 2
    return nn.Conv1d(channels, out, kernel_size, padding=width, dilation=dilation)


def _keep_variance(module: nn.Module) -> None:
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


def _clear(x: Tensor, frames: Tensor | None, per_frame: int) -> Tensor:
    """Set (B, C, T) to zero from position frames * per_frame of each row."""
    if frames is None:
        return x
    valid = torch.arange(x.shape[2], device=x.device) < (frames * per_frame)[:, None]
    return x * valid[:, None]


def _check(
    dim: int, channels: int, ratios: Sequence[int], units: int, kernel_size: int
) -> None:
    positive_int("dim", dim)
    positive_int("channels", channels)
    for ratio in ratios:
        positive_int("ratios", ratio)
    if not ratios or min(ratios) < 2:
        raise ConfigError(f"ratios must be strides of 2 or more, not {list(ratios)}")
    if units < 0 or isinstance(units, bool):
        raise ConfigError(f"residual_units must be 0 or more, not {units!r}")
    if positive_int("kernel_size", kernel_size) % 2 == 0:
        raise ConfigError(f"kernel_size must be odd, not {kernel_size}")
