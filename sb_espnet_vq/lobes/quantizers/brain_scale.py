"""Scaling of a loss that is added outside of a SpeechBrain Brain.

A Brain divides its loss by the number of micro-batches of a step and multiplies it by
the factor of its gradient scaler. A loss that an adapter attaches to its output needs
the same scaling.
"""

import functools
import weakref
from typing import Any

from torch import Tensor


class BrainScale:
    """Scales a loss as the Brain that trains the module scales its own.

    That is the first Brain built with the module, then each whose ``fit`` starts.
    Without a Brain the loss is not scaled. Copies and pickles belong to no Brain.

    Example
    -------
    >>> import torch
    >>> BrainScale()(torch.tensor(3.0))
    tensor(3.)
    """

    def __init__(self) -> None:
        self._brain: Any = _nobody
        _watch_brains()

    def follow(self, brain: Any, trains: bool) -> None:
        """Scale as this Brain does, if it trains now or there is no other."""
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


def _nobody() -> None:
    return None


def _watch_brains() -> None:
    """Make Brains find the adapters in their modules."""
    try:
        from speechbrain.core import Brain
    except ImportError:
        return
    build, fit = Brain.__init__, Brain.fit
    if hasattr(build, "tells_adapters"):
        return

    @functools.wraps(build)
    def init(self, *args, **kwargs):
        build(self, *args, **kwargs)
        _tell_adapters(self, trains=False)

    @functools.wraps(fit)
    def told_fit(self, *args, **kwargs):
        _tell_adapters(self, trains=True)
        return fit(self, *args, **kwargs)

    init.tells_adapters = True  # type: ignore[attr-defined]
    Brain.__init__, Brain.fit = init, told_fit


def _tell_adapters(brain: Any, trains: bool) -> None:
    for module in brain.modules.modules():
        scale = getattr(module, "scale_loss", None)
        if isinstance(scale, BrainScale):
            scale.follow(brain, trains)
