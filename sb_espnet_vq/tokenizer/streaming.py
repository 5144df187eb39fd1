"""Codes of audio, and audio of codes, chunk by chunk.

A causal convolutional network gives the same frames for the end of a signal as for the
whole, from as far on as its layers see. So each call computes the new frames with
``context`` frames before them, and keeps that much of its input for the next call. This
holds for every such network, without state in its layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError, ShapeError
from sb_espnet_vq.tokenizer.base import TokenModel


class StreamingEncoder:
    """Encodes chunks of audio; from `AudioTokenizer.streaming_encoder`.

    The codes of all calls together are those of the whole signal. Only a code whose
    score equals another's up to rounding may differ.

    Arguments
    ---------
    model : TokenModel
        A causal codec.
    options : mapping
        Of the quantizer's ``encode``.

    Attributes
    ----------
    context : int
        Frames before the new ones that each call computes again.
    latency_ms : float
        Duration of a frame in ms: its codes are known after its last sample.

    Raises
    ------
    ConfigError
        If the model is not causal.
    """

    def __init__(self, model: TokenModel, options: Mapping[str, Any]):
        encoder, _ = model.causal_networks()
        self.context = math.ceil(past_inputs(encoder, 1) / model.hop)
        self.latency_ms = 1000 * model.hop / model.sample_rate
        self._model, self._options = model, dict(options)
        self._held: Tensor | None = None
        self._known = 0

    def __call__(self, chunk: Tensor) -> Tensor:
        """Return the codes of the frames that this chunk completes.

        Arguments
        ---------
        chunk : torch.Tensor
            (B, L) float, the next L samples of B signals; L may differ in each call.

        Returns
        -------
        torch.Tensor
            (B, T, K) int64; T is 0 if no frame is complete.

        Raises
        ------
        ShapeError
            If the shape or dtype is wrong, or B is not that of the first chunk.
        """
        rows = None if self._held is None else len(self._held)
        good = isinstance(chunk, Tensor) and chunk.dim() == 2 and len(chunk)
        if not good or not chunk.is_floating_point() or rows not in (None, len(chunk)):
            got = type(chunk).__name__
            if isinstance(chunk, Tensor):
                got = f"{tuple(chunk.shape)} {chunk.dtype}"
            wanted = "B above 0" if rows is None else f"B = {rows} as before"
            raise ShapeError(f"chunk must be (B, L) float with {wanted}, got {got}")
        device = next(self._model.parameters()).device
        chunk = chunk.to(device)
        held = chunk if self._held is None else torch.cat([self._held, chunk], 1)
        return self._encode(held, held.shape[1] // self._model.hop)

    def finish(self) -> Tensor:
        """Return the codes of a last, incomplete frame; then a new stream may start.

        Returns
        -------
        torch.Tensor
            (B, T, K) int64, T 0 or 1.

        Raises
        ------
        ShapeError
            If there was no chunk.
        """
        if self._held is None:
            raise ShapeError("the stream has had no chunk, so it has no codes")
        last = self._encode(self._held, -(-self._held.shape[1] // self._model.hop))
        self._held, self._known = None, 0
        return last

    @torch.no_grad()
    def _encode(self, held: Tensor, total: int) -> Tensor:
        """Encode the frames from the known ones up to `total`."""
        hop, quantizer = self._model.hop, self._model.quantizer
        if total > self._known:
            frames = self._model.frames(held[:, : total * hop])[:, self._known :]
            codes = quantizer.encode(frames, **self._options)
        else:
            levels = self._options["n_codebooks"]
            codes = torch.zeros(len(held), 0, levels, dtype=torch.long).to(held.device)
        kept = min(total, self.context)
        self._held, self._known = held[:, (total - kept) * hop :].clone(), kept
        return codes


class StreamingDecoder:
    """Decodes chunks of codes; from `AudioTokenizer.streaming_decoder`.

    The audio of all calls together is that of all codes up to rounding. The audio of a
    frame needs no later codes.

    Arguments
    ---------
    model : TokenModel
        A causal codec.

    Attributes
    ----------
    context : int
        Frames before the new ones that each call computes again.

    Raises
    ------
    ConfigError
        If the model is not causal.
    """

    def __init__(self, model: TokenModel):
        _, decoder = model.causal_networks()
        self.context = math.ceil(past_inputs(decoder, model.hop) / model.hop)
        self._model = model
        self._held: Tensor | None = None

    @torch.no_grad()
    def __call__(self, codes: Tensor) -> Tensor:
        """Return the audio of the next frames.

        Arguments
        ---------
        codes : torch.Tensor
            (B, T, K) integers; T may differ in each call.

        Returns
        -------
        torch.Tensor
            (B, T * hop) float32.

        Raises
        ------
        ShapeError
            If the shape or dtype is wrong, or B or K is not that of the first call.
        ValueError
            If a code is out of range.
        """
        before = None if self._held is None else (len(self._held), self._held.shape[2])
        good = isinstance(codes, Tensor) and codes.dim() == 3 and len(codes)
        if not good or before not in (None, (len(codes), codes.shape[2])):
            got = tuple(codes.shape) if isinstance(codes, Tensor) else type(codes)
            wanted = "" if before is None else " with (B, K) = {} as before"
            raise ShapeError(
                f"codes must be (B, T, K){wanted.format(before)}, got {got}"
            )
        device = next(self._model.parameters()).device
        codes = codes.to(device)
        held = codes if self._held is None else torch.cat([self._held, codes], 1)
        if not codes.shape[1]:
            return torch.zeros(len(codes), 0, device=device)
        audio = self._model.audio(held)[:, -codes.shape[1] * self._model.hop :]
        self._held = held[:, -self.context or held.shape[1] :].clone()
        return audio


def past_inputs(network: nn.Module, stride: int) -> int:
    """Return how far before its frame a causal network sees, in samples.

    Arguments
    ---------
    network : torch.nn.Module
        Its convolutions follow each other in the order of ``modules``, and all their
        padding is before the first frame.
    stride : int
        Samples per step of its input.

    Returns
    -------
    int

    Raises
    ------
    ConfigError
        If a layer has a memory without limit.

    Example
    -------
    >>> from sb_espnet_vq.codec.networks import ConvEncoder
    >>> past_inputs(ConvEncoder(8, 4, ratios=(2, 5), kernel_size=3, causal=True), 1)
    40
    """
    total = 0
    for layer in network.modules():
        if isinstance(layer, nn.RNNBase):
            raise ConfigError(
                f"{type(layer).__name__} depends on all audio before a frame, so no "
                "chunk is enough for its frames: train the codec without it "
                "(encdec_lstm: 0)"
            )
        if isinstance(layer, nn.Conv1d):
            span = layer.dilation[0] * (layer.kernel_size[0] - 1) + 1
            total += (span - layer.stride[0]) * stride
            stride *= layer.stride[0]
        elif isinstance(layer, nn.ConvTranspose1d):
            blocks = math.ceil(layer.kernel_size[0] / layer.stride[0])
            total += (blocks - 1) * stride
            stride //= layer.stride[0]
    return total
