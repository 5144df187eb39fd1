"""Scaling of a loss that is added outside a SpeechBrain Brain.

A Brain divides its loss by the number of micro-batches per step and multiplies it by
the scale of its gradient scaler. A loss that an adapter attaches to its output needs
the same scaling.
"""

import functools
import weakref
from typing import Any

from torch import Tensor


class BrainScale:
    """Scales a loss in the same way as the Brain that trains the module.

    It follows the first Brain built with the module, then each Brain whose ``fit``
    starts. Without a Brain the loss is not scaled. Copies start without a Brain.

    Example
    -------
    >>> import torch
    >>> BrainScale()(torch.tensor(3.0))
    tensor(3.)
    """

    def __init__(self) -> None:
        self._brain: Any = _no_brain
        _watch_brains()

    def follow(self, brain: Any, trains: bool) -> None:
        """Follow this Brain if it is training or there is no other."""
        if trains or self._brain() is None:
            self._brain = weakref.ref(brain)

    def __call__(self, loss: Tensor) -> Tensor:
        """Return the loss times the Brain's factor."""
        brain = self._brain()
        if brain is None:
            return loss
        return brain.scaler.scale(loss / brain.grad_accumulation_factor)

    def __reduce__(self) -> tuple:
        return BrainScale, ()


def _no_brain() -> None:
    return None


def _watch_brains() -> None:
    """Make every Brain register itself with the adapters among its modules."""
    try:
        from speechbrain.core import Brain
    except ImportError:
        return
    build, fit = Brain.__init__, Brain.fit
    if hasattr(build, "notifies_adapters"):
        return

    @functools.wraps(build)
    def init(self, *args, **kwargs):
        build(self, *args, **kwargs)
        _notify_adapters(self, trains=False)

    @functools.wraps(fit)
    def fit_with_adapters(self, *args, **kwargs):
        _notify_adapters(self, trains=True)
        return fit(self, *args, **kwargs)

    init.notifies_adapters = True  # type: ignore[attr-defined]
    Brain.__init__, Brain.fit = init, fit_with_adapters


def _notify_adapters(brain: Any, trains: bool) -> None:
    for module in brain.modules.modules():
        scale = getattr(module, "scale_loss", None)
        if isinstance(scale, BrainScale):
            scale.follow(brain, trains)
