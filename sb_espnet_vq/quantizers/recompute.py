"""Activation checkpointing: a forward that runs again during backward.

`torch.utils.checkpoint` drops what a forward computed and calls it again when backward
needs it. A training forward changes buffers; run again on the changed ones it would
give other codes, and change them twice. It is therefore run again on a copy of what
the buffers were before its first run.
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
    # Backward passes (autograd's numbers for them) that have run it again.
    repeats: list[int]


class BufferHistory:
    """Copies of a module's buffers from before the forwards that may run again."""

    def __init__(self):
        self._calls: list[_Call] = []

    def __reduce__(self):
        # A copy of the module has not run anything yet.
        return BufferHistory, ()

    @contextmanager
    def run(self, module: nn.Module, x: Tensor) -> Iterator[None]:
        """Run a training forward of ``module`` on ``x`` within this context.

        Arguments
        ---------
        module : torch.nn.Module
            Its buffers, those of submodules too, may be changed in place.
        x : torch.Tensor
            The input, by which a forward that runs again is recognized.

        Raises
        ------
        RuntimeError
            If a forward runs again whose buffers were not kept.
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
        # The backward pass of those that ran again is over. Of forwards without
        # gradient, which are reentrant checkpointing's or nobody's, the last is kept.
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
            "activation checkpointing runs a forward of the quantizer again that it "
            "does not remember: of several reentrant ones before a backward it knows "
            "the last. Use checkpoint(..., use_reentrant=False)"
        )


def _current_backward() -> int:
    """Return autograd's number of the backward pass under way here, -1 for none."""
    return torch._C._current_graph_task_id()


def _may_run_again() -> bool:
    """Tell whether the present forward may be one under checkpointing.

    It then runs without gradient (reentrant) or with hooks on saved tensors.
    """
    if not torch.is_grad_enabled():
        return True
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def _buffer_places(module: nn.Module) -> list[tuple[nn.Module, str]]:
    return [(owner, name) for owner in module.modules() for name in owner._buffers]


@torch.no_grad()
def _checksum(x: Tensor) -> Tensor:
    """Sum up what is finite, rows weighted by their place."""
    rows = x.reshape(-1, x.shape[-1]).sum(1, dtype=torch.float64).nan_to_num(0, 0, 0)
    return rows @ torch.arange(1, len(rows) + 1, dtype=rows.dtype, device=x.device)
