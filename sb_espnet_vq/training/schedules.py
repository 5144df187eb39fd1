"""Learning-rate schedules that depend only on the step and have no state."""

from __future__ import annotations

import math

import torch

from sb_espnet_vq.errors import ConfigError


class WarmupDecay:
    """Learning-rate schedule with linear warmup and decay.

    Arguments
    ---------
    peak : float
        Learning rate at the end of the warmup, without the linear decay.
    warmup_steps : int
        Optimizer steps of the warmup; 0 counts as 1.
    decay : str
        `linear`: multiply by a factor that decreases linearly from 1 to 0 over the
        whole run, including the warmup. `inverse_sqrt`: after the warmup, decay with
        the inverse square root of the step (Vaswani et al. 2017, section 5.3), whatever
        the length of the run.

    Raises
    ------
    ConfigError
        If `decay` is neither of them.

    Example
    -------
    >>> schedule = WarmupDecay(peak=1.0, warmup_steps=10, decay="linear")
    >>> [round(schedule.rate(step, total=100), 3) for step in (1, 10, 55, 100)]
    [0.099, 0.9, 0.45, 0.0]
    """

    def __init__(self, peak: float, warmup_steps: int, decay: str = "linear"):
        if decay not in ("linear", "inverse_sqrt"):
            raise ConfigError(f"decay must be linear or inverse_sqrt, not {decay!r}")
        self.peak = peak
        self.warmup_steps = max(1, warmup_steps)
        self.decay = decay

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate of a step.

        Arguments
        ---------
        step : int
            Number of the optimizer step, from 1.
        total : int
            Number of optimizer steps of the whole run.

        Returns
        -------
        float
        """
        if self.decay == "linear":
            rise = min(1.0, step / self.warmup_steps)
            return self.peak * rise * max(0.0, 1 - step / total)
        rise = step / self.warmup_steps
        return self.peak * min(rise, math.sqrt(1 / rise))

    def apply(self, optimizer: torch.optim.Optimizer, step: int, total: int) -> None:
        """Set the learning rate for the next step.

        Arguments
        ---------
        optimizer : torch.optim.Optimizer
            Its groups get the same rate, multiplied by the group's ``lr_scale`` if it
            has one.
        step, total : int
            As in `rate`.
        """
        for group in optimizer.param_groups:
            group["lr"] = self.rate(step, total) * group.get("lr_scale", 1.0)
