"""LSTM layers in ONNX files.

torch.export unrolls an LSTM over the frames of its example, so that the result would
accept no other length. While a model is exported, its LSTMs therefore call an operator
of their own, which becomes ONNX's LSTM.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# torch's gates are input, forget, cell, output; ONNX's input, output, forget, cell.
_GATES = (0, 3, 1, 2)

torch.library.define(
    "sb_espnet_vq::onnx_lstm", "(Tensor x, Tensor w, Tensor r, Tensor b) -> Tensor"
)


@torch.library.register_fake("sb_espnet_vq::onnx_lstm")
def _shape(x: Tensor, w: Tensor, r: Tensor, b: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], 1, x.shape[1], r.shape[2])


def translations() -> dict[Any, Any]:
    """Return the ``custom_translation_table`` of ``torch.onnx.export``."""
    from onnxscript import opset18

    def lstm(x, w, r, b):
        return opset18.LSTM(x, w, r, b, hidden_size=r.shape[2])[0]

    return {torch.ops.sb_espnet_vq.onnx_lstm.default: lstm}


@contextmanager
def exportable(model: nn.Module) -> Iterator[None]:
    """Replace the LSTMs of a model within the block.

    Arguments
    ---------
    model : torch.nn.Module
        Its LSTMs that are bidirectional or have the batch first stay.
    """
    found = [
        (parent, name, child)
        for parent in list(model.modules())
        for name, child in parent.named_children()
        if isinstance(child, nn.LSTM)
        and not (child.bidirectional or child.batch_first or child.proj_size)
        and child.bias
    ]
    try:
        for parent, name, child in found:
            setattr(parent, name, _Layers(child))
        yield
    finally:
        for parent, name, child in found:
            setattr(parent, name, child)


class _Layers(nn.Module):
    """The layers of an LSTM, from a state of zero, with ONNX's operator."""

    def __init__(self, lstm: nn.LSTM):
        super().__init__()
        self.layers = lstm.num_layers
        for layer in range(self.layers):
            w, r, *biases = (
                _reorder(getattr(lstm, f"{kind}_l{layer}").detach())
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            for name, value in (("w", w), ("r", r), ("b", torch.cat(biases))):
                self.register_buffer(f"{name}{layer}", value[None])

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return the output (T, B, H) for (T, B, D)."""
        for layer in range(self.layers):
            weights = (getattr(self, f"{name}{layer}") for name in "wrb")
            x = torch.ops.sb_espnet_vq.onnx_lstm(x, *weights)[:, 0]
        return x, None


def _reorder(weight: Tensor) -> Tensor:
    return torch.cat([weight.chunk(4)[gate] for gate in _GATES])
