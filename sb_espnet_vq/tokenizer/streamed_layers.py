"""Layers of causal networks that are called with one chunk after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Maps the next (B, C, T) of a stream to what it adds to the output.
Layer = Callable[[Tensor], Tensor]


class Windowed:
    """A causal convolutional layer, which gets the inputs before a chunk once more.

    It keeps as many inputs as its convolutions see, and drops what the layer computes
    of these alone. That holds for any layer, without access to its padding.

    Arguments
    ---------
    layer : torch.nn.Module
        Maps (B, C, T) to (B, D, T * r) or (B, D, T / r). Its convolutions follow each
        other in the order of ``modules``, and pad before the first input only.

    Example
    -------
    >>> from sb_espnet_vq.codec.layers import ResidualUnit
    >>> unit, x = ResidualUnit(4, dilation=3, causal=True), torch.randn(1, 4, 50)
    >>> streamed = Windowed(unit)
    >>> chunks = torch.cat([streamed(chunk) for chunk in x.split(7, 2)], 2)
    >>> torch.allclose(chunks, unit(x), atol=1e-6), streamed.past
    (True, 6)
    """

    def __init__(self, layer: nn.Module):
        self.layer = layer
        past, self.down, self.up = 0, 1, 1
        for each in layer.modules():
            if isinstance(each, nn.Conv1d):
                span = each.dilation[0] * (each.kernel_size[0] - 1) + 1
                past += (span - each.stride[0]) * self.down
                self.down *= each.stride[0]
            elif isinstance(each, nn.ConvTranspose1d):
                past += math.ceil(each.kernel_size[0] / each.stride[0]) - 1
                self.up *= each.stride[0]
        #: Inputs that are kept, as many as make whole outputs.
        self.past = past + -past % self.down
        self.held: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs that the next inputs add."""
        known = 0
        if self.held is not None:
            known = self.held.shape[2]
            x = torch.cat([self.held, x], 2)
        self.held = x[..., max(0, x.shape[2] - self.past) :].clone()
        return self.layer(x)[..., known * self.up // self.down :]


class Recurrent:
    """An LSTM over the steps of (B, C, T), which carries its state.

    Arguments
    ---------
    lstm : torch.nn.LSTM
        Over (T, B, C), in one direction.
    skip : bool
        Whether its input is added to its output.
    """

    def __init__(self, lstm: nn.LSTM, skip: bool):
        self.lstm, self.skip = lstm, skip
        self.state: Any = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs of the next inputs."""
        steps = x.permute(2, 0, 1)
        out, self.state = self.lstm(steps, self.state)
        return (out + steps if self.skip else out).permute(1, 2, 0)


def run(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Return the output of layers that follow each other."""
    for layer in layers:
        x = layer(x)
    return x
