"""Reference of one EMA update of a codebook, and the state before it."""

import torch
import torch.nn.functional as F
from torch import Tensor

DECAY = 0.99
_SMOOTHING = 1e-5


def averaged_codebook(table: Tensor, frames: Tensor, codes: Tensor) -> Tensor:
    """Return a codebook after one EMA update, starting with a count of 1 per code.

    Arguments
    ---------
    table : torch.Tensor
        (V, D) codebook before the update.
    frames : torch.Tensor
        (N, D).
    codes : torch.Tensor
        (N,) int64.

    Returns
    -------
    torch.Tensor
        (V, D).
    """
    chosen = F.one_hot(codes, len(table)).to(frames)
    counts = DECAY * torch.ones_like(table[:, 0]) + (1 - DECAY) * chosen.sum(0)
    sums = DECAY * table + (1 - DECAY) * (chosen.t() @ frames)
    total = counts.sum()
    counts = (counts + _SMOOTHING) * total / (total + len(table) * _SMOOTHING)
    return sums / counts[:, None]


def initial_state(table: Tensor) -> dict[str, Tensor]:
    """Return the state of an EMA codebook with a count of 1 per code.

    Arguments
    ---------
    table : torch.Tensor
        (V, D) codebook.

    Returns
    -------
    dict
        Buffers by name; our class has the same names as ESPnet's.
    """
    return {
        "inited": torch.ones(1),
        "cluster_size": torch.ones(len(table)),
        "embed": table,
        "embed_avg": table,
    }
