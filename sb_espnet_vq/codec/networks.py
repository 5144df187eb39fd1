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

from sb_espnet_vq.codec.layers import (
    Down,
    ResidualUnit,
    Up,
    clear,
    convolution,
    keep_variance,
)
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
    causal : bool
        Whether frames depend on no later samples than their own; such a codec can be
        used on a stream.

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
        causal: bool = False,
    ):
        super().__init__()
        _check(dim, channels, ratios, residual_units, kernel_size)
        self.hop, self.causal = math.prod(ratios), causal
        layers: list[nn.Module] = [convolution(1, channels, kernel_size, causal)]
        self.strides = [1]
        for ratio in ratios:
            for unit in range(residual_units):
                layers.append(ResidualUnit(channels, 3**unit, causal))
                self.strides.append(self.strides[-1])
            layers.append(nn.Sequential(nn.ELU(), Down(channels, ratio, causal)))
            self.strides.append(self.strides[-1] * ratio)
            channels *= 2
        layers.append(
            nn.Sequential(nn.ELU(), convolution(channels, dim, kernel_size, causal))
        )
        self.strides.append(self.hop)
        self.layers = nn.ModuleList(layers)
        self.apply(keep_variance)

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
            x = clear(layer(x), frames, self.hop // stride)
        return x.transpose(1, 2)


class ConvDecoder(nn.Module):
    """Decodes frames to audio; mirrors the layers of `ConvEncoder`.

    Arguments
    ---------
    dim, channels, ratios, residual_units, kernel_size, causal
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
        causal: bool = False,
    ):
        super().__init__()
        _check(dim, channels, ratios, residual_units, kernel_size)
        self.hop, self.causal = math.prod(ratios), causal
        channels *= 2 ** len(ratios)
        layers: list[nn.Module] = [convolution(dim, channels, kernel_size, causal)]
        self.strides = [self.hop]
        for ratio in reversed(ratios):
            layers.append(nn.Sequential(nn.ELU(), Up(channels, ratio, causal)))
            self.strides.append(self.strides[-1] // ratio)
            channels //= 2
            for unit in range(residual_units):
                layers.append(ResidualUnit(channels, 3**unit, causal))
                self.strides.append(self.strides[-1])
        layers.append(
            nn.Sequential(nn.ELU(), convolution(channels, 1, kernel_size, causal))
        )
        self.strides.append(1)
        self.layers = nn.ModuleList(layers)
        self.apply(keep_variance)

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
        x = clear(frames.transpose(1, 2), n_frames, 1)
        for layer, stride in zip(self.layers, self.strides, strict=True):
            x = clear(layer(x), n_frames, self.hop // stride)
        return x[:, 0]


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
