"""Any registered quantizer in the comparison."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sb_espnet_vq.bench.distortion.model import Model, Sizes
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.quantizers.chain import beam_options
from sb_espnet_vq.quantizers.refit import refit
from sb_espnet_vq.registry import build
from sb_espnet_vq.toolkit_words import translate

# Frames that are refitted at once.
_CHUNK = 2**14


class OurModel(Model):
    """A registered quantizer, trained by gradient if it has parameters.

    Arguments
    ---------
    name : str
        Of the quantizer.
    sizes : Sizes
        A quantizer without several codebooks has one.
    options : dict
        Of the quantizer; they override the sizes.
    lr : float
        Learning rate of Adam.
    """

    def __init__(self, name: str, sizes: Sizes, options: dict[str, Any], lr: float):
        self.quantizer = build(name, **translate(name, sizes._asdict(), options))
        if self.quantizer.needs_labels:
            raise ConfigError(f"{name}: its codes depend on labels, which are unknown")
        self.sizes = self.quantizer.codebook_sizes
        self.takes_beam = self.quantizer.takes_beam
        self.lr = lr

    def train(self, batches: Iterable[Tensor]) -> None:
        """Minimize squared error and the quantizer's loss, if it has parameters."""
        quantizer = self.quantizer.train()
        learnt = [each for each in quantizer.parameters() if each.requires_grad]
        optimizer = torch.optim.Adam(learnt, self.lr) if learnt else None
        for step, x in enumerate(batches):
            quantizer.set_step(step)
            with torch.set_grad_enabled(bool(learnt)):
                out = quantizer(x)
            if optimizer is not None:
                optimizer.zero_grad()
                (F.mse_loss(out.quantized, x) + out.loss).backward()
                optimizer.step()
        quantizer.eval()

    def refitted(self, x: Tensor, rounds: int, beam: int) -> Model | None:
        """Return a copy with refitted codebooks, of residual quantizers."""
        if not self.takes_beam:
            return None
        other = copy.deepcopy(self)
        try:
            refit(other.quantizer, x.split(_CHUNK), rounds, beam)
        except ConfigError:
            # Codebooks that cannot be replaced, such as those behind projections.
            return None
        return other

    def encode(self, x: Tensor, beam: int) -> Tensor:
        """Return the codes."""
        options = beam_options(self.quantizer, beam)
        return self.quantizer.encode(x, **options)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the values."""
        return self.quantizer.decode(codes)
