"""Activation checkpointing: recomputation of a forward during backward.

`torch.utils.checkpoint` discards the activations of a forward and recomputes them in
the backward pass. A training forward updates buffers; recomputed on the updated
buffers, it would give other codes and update them twice. The recomputation therefore
uses a copy of the buffers from before the first run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn


class _Call(NamedTuple):
    checksum: Tensor
    buffers: list[Tensor | None]
    with_grad: bool
    # Backward passes (their ids in autograd) that have recomputed it.
    repeats: list[int]


class BufferHistory:
    """Copies of a module's buffers, made before each forward that may be recomputed."""

    def __init__(self):
        self._calls: list[_Call] = []

    def __reduce__(self):
        # A copy of the module starts with an empty history.
        return BufferHistory, ()

    @contextmanager
    def run(self, module: nn.Module, x: Tensor) -> Iterator[None]:
        """Run a training forward of ``module`` on ``x`` within this context.

        Arguments
        ---------
        module : torch.nn.Module
            Its buffers, including those of submodules, may change in place.
        x : torch.Tensor
            The input; it identifies a recomputed forward.

        Raises
        ------
        RuntimeError
            If a forward is recomputed whose buffers were not kept.
        """
        backward = _current_backward()
        if backward < 0:
            self._remember(module, x)
            yield
            return
        before = self._buffers_before(x, backward)
        places = _buffer_places(module)
        now = [owner._buffers[name] for owner, name in places]
        for (owner, name), buffer in zip(places, before, strict=True):
            owner._buffers[name] = None if buffer is None else buffer.clone()
        try:
            yield
        finally:
            for (owner, name), buffer in zip(places, now, strict=True):
                owner._buffers[name] = buffer

    def _remember(self, module: nn.Module, x: Tensor) -> None:
        # Drop calls that have been recomputed: their backward pass is over. Of forwards
        # without gradient, which may be reentrant checkpointing's, keep only the last.
        with_grad = torch.is_grad_enabled()
        self._calls = [
            call
            for call in self._calls
            if not call.repeats and (call.with_grad or with_grad)
        ]
        if not _may_run_again():
            return
        buffers = [owner._buffers[name] for owner, name in _buffer_places(module)]
        copies = [None if b is None else b.clone() for b in buffers]
        self._calls.append(_Call(_checksum(x), copies, with_grad, []))

    def _buffers_before(self, x: Tensor, backward: int) -> list[Tensor | None]:
        mine = _checksum(x)
        for call in reversed(self._calls):
            if backward not in call.repeats and torch.equal(call.checksum, mine):
                call.repeats.append(backward)
                return call.buffers
        raise RuntimeError(
            "activation checkpointing recomputes a forward of the quantizer whose "
            "buffers were not kept: with use_reentrant=True only those of the last "
            "forward before a backward are. Use checkpoint(..., use_reentrant=False)"
        )


def _current_backward() -> int:
    """Return autograd's id of the current backward pass, -1 if there is none."""
    return torch._C._current_graph_task_id()


def _may_run_again() -> bool:
    """Return whether the current forward may run under checkpointing.

    Such a forward runs without gradient (reentrant) or with saved-tensor hooks.
    """
    if not torch.is_grad_enabled():
        return True
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def _buffer_places(module: nn.Module) -> list[tuple[nn.Module, str]]:
    return [(owner, name) for owner in module.modules() for name in owner._buffers]


@torch.no_grad()
def _checksum(x: Tensor) -> Tensor:
    """Return the sum of finite rows, weighted by their position."""
    rows = x.reshape(-1, x.shape[-1]).sum(1, dtype=torch.float64).nan_to_num(0, 0, 0)
    return rows @ torch.arange(1, len(rows) + 1, dtype=rows.dtype, device=x.device)
