"""What drop-in classes share: a quantizer behind the names of the replaced class."""

from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.nnet.state_names import keep_upstream_names
from sb_espnet_vq.quantizers.learning import FreezableModule


class DropIn(FreezableModule):
    """Holds a quantizer, whose state has the keys of the replaced class.

    A subclass translates the arguments and results. Members of the quantizer that the
    replaced class lacks are those of ``quantizer``.

    Arguments
    ---------
    quantizer : Quantizer
        With parameters and buffers named as in the replaced class.
    """

    quantizer: Any

    def __init__(self, quantizer: torch.nn.Module):
        super().__init__()
        self.quantizer = quantizer
        keep_upstream_names(self)

    def encode(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the codes (..., K) of a batch, as `Quantizer.encode` does."""
        return self.quantizer.encode(x, mask=mask)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the values of codes (..., K), as `Quantizer.decode` does."""
        return self.quantizer.decode(codes)
