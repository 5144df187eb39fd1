"""Sampling of negatives for a contrastive loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from sb_espnet_vq.utils.seeds import seed_of


class Negatives(NamedTuple):
    """Negatives of each masked frame: other masked frames of its utterance.

    frames : (B, T, n) int64, indices of frames in the same row; valid : (B, T, n) bool,
    False where the utterance has fewer than n other masked frames.
    """

    frames: torch.Tensor
    valid: torch.Tensor


def sample_negatives(mask: torch.Tensor, keys: Sequence[str], count: int) -> Negatives:
    """Draw negatives among the other masked frames of the same utterance.

    Frames are drawn without replacement; if an utterance has fewer than ``count`` other
    masked frames, all of them are drawn. The negatives of an utterance depend only on
    its key and mask, not on the batch, padding or process, so that a resumed run draws
    the same.

    Arguments
    ---------
    mask : torch.Tensor
        (B, T) bool span mask, True at masked frames.
    keys : Sequence[str]
        Seed of the draw of each utterance, for example its ID with seed and epoch.
    count : int
        Number of negatives per frame, at least 1.

    Returns
    -------
    Negatives
        On the device of the mask, with n = ``count``.

    Raises
    ------
    ValueError
        If ``mask`` has a wrong shape or dtype, or ``count`` is less than 1.

    Example
    -------
    >>> mask = torch.tensor([[True, False, True, True], [False, True, False, False]])
    >>> negatives = sample_negatives(mask, ["a", "b"], count=5)
    >>> negatives.valid.sum(-1)
    tensor([[2, 0, 2, 2],
            [0, 0, 0, 0]])
    >>> sorted(negatives.frames[0, 0, :2].tolist())
    [2, 3]
    """
    if mask.dim() != 2 or mask.dtype != torch.bool:
        raise ValueError(
            f"mask must be (utterances, frames) bool, got {tuple(mask.shape)} "
            f"{mask.dtype}"
        )
    if count < 1:
        raise ValueError(f"count must be at least 1 negative, got {count}")
    # Drawn on the CPU, so that results do not depend on the device.
    rows = mask.cpu()
    index = torch.zeros(*rows.shape, count, dtype=torch.int64)
    valid = torch.zeros(*rows.shape, count, dtype=torch.bool)
    for row, key, indices, drawn in zip(rows, keys, index, valid, strict=True):
        frames = row.nonzero()[:, 0]
        others = _draw_others(len(frames), count, seed_of(key))
        indices[frames, : others.shape[1]] = frames[others]
        drawn[frames, : others.shape[1]] = True
    return Negatives(index.to(mask.device), valid.to(mask.device))


def _draw_others(frames: int, count: int, seed: int) -> torch.Tensor:
    """Draw up to ``count`` other frames for each frame: (frames, drawn) int64."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(frames, frames, generator=generator)
    # Greater than every draw, so that a frame is never its own negative.
    order.fill_diagonal_(2.0)
    return order.topk(max(0, min(count, frames - 1)), largest=False).indices
