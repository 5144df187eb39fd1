"""Base classes of modules with learned buffers: freezing, casts, distributed ranks."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from sb_espnet_vq.ops.collectives import copy_from_first_rank_
from sb_espnet_vq.ops.devices import tracing
from sb_espnet_vq.quantizers.precision import widen_buffers
from sb_espnet_vq.quantizers.recompute import BufferHistory


class FreezableModule(nn.Module):
    """A module whose ``requires_grad_`` also freezes the quantizers it contains."""

    def requires_grad_(self, requires_grad: bool = True):
        """Freeze or unfreeze the module and all quantizers it contains.

        In training, a frozen quantizer computes the same outputs as before (`gumbel`
        samples codes, and gradients reach ``x``), but parameters and moving averages
        do not change and dead codes are not replaced.

        Arguments
        ---------
        requires_grad : bool
            False freezes.

        Returns
        -------
        torch.nn.Module
            Itself.
        """
        # torch's version visits only parameters, but a codebook may have none.
        for module in self.modules():
            if isinstance(module, LearningModule):
                module.frozen = not requires_grad
        return super().requires_grad_(requires_grad)


class LearningModule(FreezableModule):
    """Module with learned buffers: freezing, casts, checkpointing, distributed ranks.

    Subclasses change their buffers only if ``learning`` is True, within ``updates``.
    """

    #: Whether training leaves parameters and buffers unchanged; see
    #: ``requires_grad_``.
    frozen: bool = False

    def __init__(self):
        super().__init__()
        self._ranks_agree = False
        self._history = BufferHistory()
        self.register_load_state_dict_post_hook(_after_loading)

    @property
    def learning(self) -> bool:
        """Whether a forward may change buffers: in training mode and not frozen."""
        return self.training and not self.frozen

    def updates(self, x: Tensor) -> AbstractContextManager:
        """Return the context of a forward on ``x`` that may change buffers.

        Under activation checkpointing it is entered twice but updates buffers once.
        """
        has_buffers = next(self.buffers(), None) is not None
        if not (self.learning and has_buffers) or tracing():
            return nullcontext()
        return self._history.run(self, x)

    @torch.no_grad()
    def _agree_over_ranks(self) -> None:
        """Broadcast the buffers of rank 0, once.

        DDP would do so, but trainers apply it only to modules with parameters, and
        random initializations differ unless the user seeds all ranks equally.
        """
        if self._ranks_agree:
            return
        for buffer in self.buffers():
            copy_from_first_rank_(buffer)
        self._ranks_agree = True

    def _apply(self, *args, **kwargs):
        before = {id(m): dict(m._buffers) for m in self.modules()}
        super()._apply(*args, **kwargs)
        # Half precision would round small updates of the averages to zero, and rounded
        # codebooks give other codes.
        widen_buffers(self, before)
        return self


def _after_loading(module: nn.Module, keys: object) -> None:
    widen_buffers(module, {})
