"""Activation checkpointing: a forward that runs again during backward.

`torch.utils.checkpoint` drops what a forward computed and calls it again when backward
needs it. A training forward changes buffers; run again on the changed ones it would
give other codes, and change them twice. It is therefore run again on a copy of what
the buffers were before its first run.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Forwards between two backward passes of which copies are kept.
_MOST_CALLS = 8


class _Call(NamedTuple):
    checksum: Tensor
    buffers: list[Tensor | None]
    # Backward passes (autograd's numbers for them) that have run it again.
    repeats: list[int]


class BufferHistory:
    """Copies of a module's buffers from before the forwards that may run again."""

    def __init__(self):
        self._calls: deque[_Call] = deque(maxlen=_MOST_CALLS)

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
        """
        backward = _current_backward()
        if backward < 0:
            self._remember(module, x)
            yield
            return
        buffers = self._buffers_before(x, backward)
        places = _buffer_places(module)
        now = [owner._buffers[name] for owner, name in places]
        for (owner, name), buffer in zip(places, buffers or now, strict=True):
            owner._buffers[name] = None if buffer is None else buffer.clone()
        try:
            yield
        finally:
            for (owner, name), buffer in zip(places, now, strict=True):
                owner._buffers[name] = buffer

    def _remember(self, module: nn.Module, x: Tensor) -> None:
        # The backward pass of those that ran again is over.
        waiting = [call for call in self._calls if not call.repeats]
        self._calls = deque(waiting, maxlen=_MOST_CALLS)
        if not _may_run_again():
            return
        if not torch.is_grad_enabled():
            # Reentrant checkpointing, or just a forward without gradient, of which
            # there may be many: the last one is kept.
            self._calls.clear()
        buffers = [owner._buffers[name] for owner, name in _buffer_places(module)]
        copies = [None if b is None else b.clone() for b in buffers]
        self._calls.append(_Call(_checksum(x), copies, []))

    def _buffers_before(self, x: Tensor, backward: int) -> list[Tensor | None] | None:
        calls = [c for c in reversed(self._calls) if backward not in c.repeats]
        if len(calls) > 1:
            # Backward passes of several losses come in any order.
            mine = _checksum(x)
            calls = [c for c in calls if torch.equal(c.checksum, mine)] or calls
        if not calls:
            return None
        calls[0].repeats.append(backward)
        return calls[0].buffers


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
    """Sum up, with NaN, which equals nothing, left out."""
    return x.nan_to_num().double().sum()
