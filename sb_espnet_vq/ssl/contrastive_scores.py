"""How alike a prediction is to the right target and to wrong ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sb_espnet_vq.ssl.negatives import Negatives

# Equal codes give equal targets, but for the rounding of what projects them.
ROUNDING = 1e-5


def contrastive_logits(
    predictions: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor,
    negatives: Negatives,
    temperature: float,
) -> torch.Tensor:
    """Cosine similarities, over a temperature, to the right target and to others.

    Baevski et al. 2020, "wav2vec 2.0", https://arxiv.org/abs/2006.11477, equation 3.
    A negative that is the right target itself (another frame with the same codes) is
    no negative.

    Arguments
    ---------
    predictions, targets : torch.Tensor
        (B, T, C) float; only what is masked counts.
    mask : torch.Tensor
        (B, T) bool, True at the N frames to predict.
    negatives : Negatives
        For those frames, n each.
    temperature : float
        Above 0; 0.1 in the paper.

    Returns
    -------
    torch.Tensor
        (N, 1 + n) float32, frames in the order of the rows: first the right target,
        then the negatives, minus infinity where there is none. In float32 under any
        autocast.

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
        alike = F.normalize(predictions.float(), dim=-1) @ directions.transpose(1, 2)
        right = alike.diagonal(dim1=1, dim2=2)[mask]
        wrong = alike.gather(2, negatives.frames)[mask]
        there = negatives.real[mask] & ~_same(targets.detach(), mask, negatives.frames)
        wrong = wrong.masked_fill(~there, -torch.inf)
        return torch.cat([right[:, None], wrong], 1) / temperature


def _same(
    targets: torch.Tensor, mask: torch.Tensor, index: torch.Tensor
) -> torch.Tensor:
    """Which negatives are the right target itself: (N, n) bool."""
    rows = mask.nonzero()[:, 0]
    right = targets[mask]
    limit = ROUNDING * right.abs().amax(1)
    # One negative at a time: all at once would take n times the memory of targets.
    apart = [(targets[rows, frames] - right).abs().amax(1) for frames in index[mask].T]
    return torch.stack(apart, 1) <= limit[:, None]
