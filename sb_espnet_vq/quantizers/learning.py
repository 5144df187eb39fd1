"""A module that learns in buffers too, as trainers expect of one with parameters."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from sb_espnet_vq.ops.collectives import copy_from_first_rank_
from sb_espnet_vq.ops.devices import tracing
from sb_espnet_vq.quantizers.precision import widen_buffers
from sb_espnet_vq.quantizers.recompute import BufferHistory


class FreezableModule(nn.Module):
    """A module around quantizers, which ``requires_grad_`` freezes with it."""

    def requires_grad_(self, requires_grad: bool = True):
        """Freeze what is inside, moving averages too, or let it learn again."""
        # torch's own goes through parameters, of which a codebook may have none.
        for child in self.children():
            child.requires_grad_(requires_grad)
        return super().requires_grad_(requires_grad)


class LearningModule(nn.Module):
    """Freezing, casts, activation checkpointing and ranks, for buffers that learn.

    A subclass changes its buffers where ``learning`` is True, within ``updates``.
    """

    #: Whether training changes nothing: see ``requires_grad_``.
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

    def requires_grad_(self, requires_grad: bool = True):
        """Freeze the quantizer, or let it learn again.

        Frozen, it behaves in training as before (it draws codes where it draws
        codes, and gradients reach ``x``), but neither parameters nor moving
        averages change, and dead codes stay dead.

        Arguments
        ---------
        requires_grad : bool
            False freezes.

        Returns
        -------
        Quantizer
            Itself.
        """
        self.frozen = not requires_grad
        return super().requires_grad_(requires_grad)

    def updates(self, x: Tensor) -> AbstractContextManager:
        """Return the context of a forward on ``x`` that may change buffers.

        Under activation checkpointing it is entered twice, and changes them once.
        """
        if not self.learning or tracing():
            return nullcontext()
        return self._history.run(self, x)

    @torch.no_grad()
    def _agree_over_ranks(self) -> None:
        """Give every rank the buffers of rank 0, once.

        Trainers wrap a module in DDP, which would do so, only if it has
        parameters; and random starts differ unless the user seeds all ranks alike.
        """
        if self._ranks_agree:
            return
        for buffer in self.buffers():
            copy_from_first_rank_(buffer)
        self._ranks_agree = True

    def _apply(self, *args, **kwargs):
        before = {id(m): dict(m._buffers) for m in self.modules()}
        super()._apply(*args, **kwargs)
        # Averages move by less than a half-precision number can tell, and tables
        # that are rounded give other codes.
        widen_buffers(self, before)
        return self


def _after_loading(module: nn.Module, keys: object) -> None:
    widen_buffers(module, {})
