"""Logits of a contrastive loss: similarities to the positive and to negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sb_espnet_vq.ssl.negatives import Negatives

# Relative tolerance for equal targets: frames with the same codes have equal targets up
# to the rounding of the projection.
ROUNDING = 1e-5


def contrastive_logits(
    predictions: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor,
    negatives: Negatives,
    temperature: float,
) -> torch.Tensor:
    """Return cosine similarities to positive and negatives, divided by temperature.

    Baevski et al. 2020, "wav2vec 2.0", https://arxiv.org/abs/2006.11477, equation 3.
    Negatives equal to the positive (other frames with the same codes) are excluded.

    Arguments
    ---------
    predictions, targets : torch.Tensor
        (B, T, C) float; only masked frames are used.
    mask : torch.Tensor
        (B, T) bool span mask, True at the N frames to predict.
    negatives : Negatives
        n negatives for each of these frames.
    temperature : float
        Above 0; 0.1 in the paper.

    Returns
    -------
    torch.Tensor
        (N, 1 + n) float32 (under any autocast), frames in row order: first the
        positive, then the negatives, minus infinity for a missing negative.

    Example
    -------
    >>> from sb_espnet_vq.ssl.negatives import sample_negatives
    >>> mask = torch.tensor([[True, True, True]])
    >>> targets = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    >>> negatives = sample_negatives(mask, ["a"], count=2)
    >>> logits = contrastive_logits(targets, targets, mask, negatives, 1.0)
    >>> logits.sort(descending=True).values
    tensor([[1., 0., -inf],
            [1., 0., 0.],
            [1., 0., -inf]])
    """
    with torch.autocast(predictions.device.type, enabled=False):
        targets = targets.float()
        directions = F.normalize(targets, dim=-1)
        cosine = F.normalize(predictions.float(), dim=-1) @ directions.transpose(1, 2)
        positive = cosine.diagonal(dim1=1, dim2=2)[mask]
        negative = cosine.gather(2, negatives.frames)[mask]
        valid = negatives.valid[mask] & ~_same(targets.detach(), mask, negatives.frames)
        negative = negative.masked_fill(~valid, -torch.inf)
        return torch.cat([positive[:, None], negative], 1) / temperature


def _same(
    targets: torch.Tensor, mask: torch.Tensor, index: torch.Tensor
) -> torch.Tensor:
    """Return which negatives equal the positive: (N, n) bool."""
    rows = mask.nonzero()[:, 0]
    positive = targets[mask]
    limit = ROUNDING * positive.abs().amax(1)
    # One negative at a time: all together need n times the memory of the targets.
    distances = [
        (targets[rows, frames] - positive).abs().amax(1) for frames in index[mask].T
    ]
    return torch.stack(distances, 1) <= limit[:, None]
