"""Span masks: the frames that a masked-prediction model must predict."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sb_espnet_vq.utils.seeds import seed_of


def span_masks(
    lengths: Sequence[int],
    keys: Sequence[str],
    start_prob: float,
    span: int,
    total: int | None = None,
) -> torch.Tensor:
    """Draw a span mask for each utterance, within its valid frames.

    Every frame starts a span with probability `start_prob`; spans may overlap and are
    cut at the end of the utterance. An utterance of two frames or more has at least one
    masked and one unmasked frame; a shorter one stays unmasked.

    The mask of an utterance depends only on its key and length, not on the batch,
    padding or process, so that a resumed run draws the same.

    Arguments
    ---------
    lengths : Sequence[int]
        Number of valid frames of each utterance, at least 0.
    keys : Sequence[str]
        Seed of the draw of each utterance, for example its ID with seed and epoch.
    start_prob : float
        Probability that a frame starts a span, in [0, 1].
    span : int
        Frames in a span, at least 1.
    total : int, optional
        Number of frames of the padded batch. Default: the largest length.

    Returns
    -------
    torch.Tensor
        (utterances, total) bool, True at masked frames.

    Raises
    ------
    ValueError
        If `start_prob` or `span` is out of range.

    Example
    -------
    >>> mask = span_masks([8, 3, 1], ["a", "b", "c"], start_prob=0.2, span=2)
    >>> mask.shape, bool(mask[1, 3:].any()), int(mask[2].sum())
    (torch.Size([3, 8]), False, 0)
    """
    if not 0 <= start_prob <= 1:
        raise ValueError(f"start_prob must be in [0, 1], got {start_prob}")
    if span < 1:
        raise ValueError(f"span must be at least 1 frame, got {span}")
    total = max(lengths, default=0) if total is None else total
    masks = torch.zeros(len(lengths), total, dtype=torch.bool)
    for row, length, key in zip(masks, lengths, keys, strict=True):
        if length >= 2:
            row[:length] = _one_mask(length, start_prob, span, seed_of(key))
    return masks


def _one_mask(length: int, start_prob: float, span: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    starts = torch.rand(length, generator=generator) < start_prob
    fallback, unmasked = torch.randint(length, (2,), generator=generator).tolist()
    if not starts.any():
        starts[fallback] = True
    mask = starts.clone()
    for offset in range(1, min(span, length - 1)):
        mask[offset:] |= starts[:-offset]
    if mask.all():
        mask[unmasked] = False
    return mask
