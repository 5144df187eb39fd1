"""Base class of drop-in classes: a quantizer behind the interface of another class."""

from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.nnet.state_names import keep_upstream_names
from sb_espnet_vq.quantizers.learning import FreezableModule


class DropIn(FreezableModule):
    """Module that holds a quantizer and has the state-dict keys of the replaced class.

    Subclasses translate arguments and results. They have a property for each parameter,
    buffer or layer of the replaced class; assignments to it are made on the quantizer.

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

    def __setattr__(self, name: str, value: Any) -> None:
        # torch would register a module under the property's name, without any effect.
        is_property = isinstance(getattr(type(self), name, None), property)
        owner = self.quantizer if is_property else self
        if owner is not self and hasattr(owner, name):
            setattr(owner, name, value)
        else:
            super().__setattr__(name, value)

    def encode(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the codes (..., K) of a batch, as `Quantizer.encode` does."""
        return self.quantizer.encode(x, mask=mask)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the values of codes (..., K), as `Quantizer.decode` does."""
        return self.quantizer.decode(codes)
