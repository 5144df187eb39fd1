"""One step of a codebook of moving averages, as all contenders define it."""

import torch
import torch.nn.functional as F
from torch import Tensor

DECAY = 0.99
_SMOOTHING = 1e-5


def averaged_codebook(table: Tensor, frames: Tensor, codes: Tensor) -> Tensor:
    """Return a codebook after one step from counts of one frame for each entry.

    Arguments
    ---------
    table : torch.Tensor
        (V, D) before the step.
    frames : torch.Tensor
        (N, D).
    codes : torch.Tensor
        (N,) their entries.

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


def started_codebook(table: Tensor) -> dict[str, Tensor]:
    """Return the state of a codebook that has counted one frame for each entry.

    Arguments
    ---------
    table : torch.Tensor
        (V, D).

    Returns
    -------
    dict
        Under the names of ESPnet, which are ours too.
    """
    return {
        "inited": torch.ones(1),
        "cluster_size": torch.ones(len(table)),
        "embed": table,
        "embed_avg": table,
    }
