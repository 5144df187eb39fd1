"""Codes of audio, and audio of codes, chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.tokenizer import streamed_layers
from sb_espnet_vq.tokenizer.base import TokenModel


class StreamingEncoder:
    """Encodes chunks of audio; from `AudioTokenizer.streaming_encoder`.

    The codes of all calls together are those of the whole signal. Only a code whose
    score equals another's up to rounding may differ. Memory does not grow.

    Arguments
    ---------
    model : TokenModel
        A causal codec.
    options : mapping
        Of the quantizer's ``encode``.

    Attributes
    ----------
    latency_ms : float
        Duration of a frame in ms: its codes are known after its last sample.

    Raises
    ------
    ConfigError
        If the model is not causal.
    """

    def __init__(self, model: TokenModel, options: Mapping[str, Any]):
        self._model, self._options = model, options
        self.latency_ms = 1000 * model.hop / model.sample_rate
        self._rest: Tensor | None
        self._start()

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
        rows = None if self._rest is None else len(self._rest)
        good = isinstance(chunk, Tensor) and chunk.dim() == 2 and len(chunk)
        if not good or not chunk.is_floating_point() or rows not in (None, len(chunk)):
            got = type(chunk).__name__
            if isinstance(chunk, Tensor):
                got = f"{tuple(chunk.shape)} {chunk.dtype}"
            wanted = "B above 0" if rows is None else f"B = {rows} as before"
            raise ShapeError(f"chunk must be (B, L) float with {wanted}, got {got}")
        chunk = chunk.to(_device(self._model), torch.float32)
        signals = chunk if self._rest is None else torch.cat([self._rest, chunk], 1)
        whole = signals.shape[1] // self._model.hop * self._model.hop
        self._rest = signals[:, whole:].clone()
        return self._encode(signals[:, :whole])

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
        if self._rest is None:
            raise ShapeError("the stream has had no chunk, so it has no codes")
        codes = self._encode(self._rest)
        self._start()
        return codes

    def _start(self) -> None:
        self._layers, _ = self._model.causal_layers()
        self._rest = None

    @torch.no_grad()
    def _encode(self, signals: Tensor) -> Tensor:
        if not signals.shape[1]:
            none = len(signals), 0, self._options["n_codebooks"]
            return torch.zeros(none, dtype=torch.int64, device=signals.device)
        frames = streamed_layers.run(self._layers, signals[:, None]).transpose(1, 2)
        return self._model.quantizer.encode(frames, **self._options)


class StreamingDecoder:
    """Decodes chunks of codes; from `AudioTokenizer.streaming_decoder`.

    The audio of all calls together is that of all codes up to rounding. The audio of a
    frame needs no later codes, so there is no latency. Memory does not grow. A new
    stream takes a new decoder.

    Arguments
    ---------
    model : TokenModel
        A causal codec.

    Raises
    ------
    ConfigError
        If the model is not causal.
    """

    def __init__(self, model: TokenModel):
        self._model = model
        _, self._layers = model.causal_layers()
        self._sizes: tuple[int, int] | None = None

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
        good = isinstance(codes, Tensor) and codes.dim() == 3 and len(codes)
        if not good or self._sizes not in (None, (len(codes), codes.shape[2])):
            got = tuple(codes.shape) if isinstance(codes, Tensor) else type(codes)
            like = "" if self._sizes is None else f" with (B, K) = {self._sizes}"
            raise ShapeError(f"codes must be (B, T, K){like}, got {got}")
        frames = self._model.quantizer.decode(codes.to(_device(self._model)))
        self._sizes = len(codes), codes.shape[2]
        if not codes.shape[1]:
            return frames.new_zeros(len(codes), 0)
        return streamed_layers.run(self._layers, frames.transpose(1, 2))[:, 0]


def _device(model: TokenModel) -> torch.device:
    return next(model.parameters()).device
