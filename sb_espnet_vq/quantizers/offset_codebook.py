"""A codebook of parameters, which k-means starts through an offset in a buffer."""

from abc import abstractmethod

import torch
from torch import Tensor

from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.codebook import Codebook
from sb_espnet_vq.quantizers.precision import table_dtype
from sb_espnet_vq.quantizers.start import start_in_graph_or_eager_, started_state


class OffsetCodebook(Codebook):
    """Base of codebooks that do not learn by moving averages.

    k-means does not write the parameters: FSDP discards what a forward writes to
    them, and activation checkpointing restores only buffers. It sets a buffer that is
    added to them, so that the vectors start as the centres.

    Arguments
    ---------
    dim, codebook_size, metric, kmeans_init, kmeans_iters
        As in `Codebook`.

    Buffers
    -------
    offset : (codebook_size, dim) centres of k-means minus the initial vectors; only if
        ``kmeans_init``.
    """

    offset: Tensor | None

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        metric: str,
        kmeans_init: bool,
        kmeans_iters: int,
    ):
        super().__init__(dim, codebook_size, metric, kmeans_init, kmeans_iters)
        offset = torch.zeros(codebook_size, dim) if kmeans_init else None
        self.register_buffer("offset", offset)

    @abstractmethod
    def _own_vectors(self) -> Tensor:
        """Return the vectors without the offset."""

    def vectors(self) -> Tensor:
        """Return the vectors (codebook_size, dim), with the gradient they learn by."""
        own = self._own_vectors()
        own = own.to(table_dtype(own))
        return own if self.offset is None else own + self.offset

    def _without_offset(self, vectors: Tensor) -> Tensor:
        """Return what to store for these vectors, which k-means shall not replace."""
        if self.inited is not None:
            self.inited.fill_(1)
        return vectors if self.offset is None else vectors - self.offset

    def _start_(self, frames: Frames) -> None:
        if self.inited is None or self.offset is None:
            return
        own = self.vectors() - self.offset
        before = self.inited.clone()
        state = started_state(self.inited, own)
        start_in_graph_or_eager_(state, frames, self.kmeans_iters, self._flag)
        # Not before the first batch with valid frames.
        starts = (self.inited > before)[:, None]
        if self.held is not None:
            starts = starts & ~self.held[:, None]
        offset = torch.where(starts, state.embed - own, self.offset)
        self.offset.copy_(offset.detach())
