"""Metrics of explanations of a classifier, given as masks on its input.

Paissan et al. 2024, "Listenable Maps for Audio Classifiers", collect these metrics; AD
and AI are from Chattopadhay et al. 2018, "Grad-CAM++", AG from Zhang et al. 2024,
"Opti-CAM". They compare a classifier's output for the input, for the part that the mask
keeps and for the part that it removes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sb_espnet_vq.errors import ShapeError


class ExplanationMetrics(NamedTuple):
    """Means over clips; c is the class predicted for the whole clip.

    Arguments
    ---------
    input_fidelity : float
        Fraction of clips whose kept part is also predicted as c. Higher is better.
    faithfulness : float
        Probability of c in the whole clip minus that in the removed part, in [-1, 1].
        Higher is better.
    average_increase : float
        AI, percentage of clips whose kept part has a higher probability of c. Higher is
        better.
    average_drop : float
        AD, drop of the probability of c in the kept part, in percent of the probability
        in the whole clip. Lower is better.
    average_gain : float
        AG, rise of the probability of c in the kept part, in percent of the largest
        possible rise. Higher is better.
    """

    input_fidelity: float
    faithfulness: float
    average_increase: float
    average_drop: float
    average_gain: float


def explanation_figures(
    whole: Tensor, kept: Tensor, left: Tensor
) -> ExplanationMetrics:
    """Compute the metrics from a classifier's probabilities.

    Arguments
    ---------
    whole, kept, left : torch.Tensor
        (N, n_classes) float, probabilities for whole clips, for the part that the mask
        keeps and for the part that it removes. Use float64, since the resolution of
        float32 near 1 is too low.

    Returns
    -------
    ExplanationMetrics

    Raises
    ------
    ShapeError
        If the shapes differ or there is no clip.

    Example
    -------
    >>> whole = torch.tensor([[0.5, 0.5 - 1e-6], [0.2, 0.8]], dtype=torch.float64)
    >>> kept, left = whole.flip(1), torch.full_like(whole, 0.5)
    >>> metrics = explanation_figures(whole, kept, left)
    >>> metrics.input_fidelity, round(metrics.faithfulness, 3)
    (0.0, 0.15)
    >>> round(metrics.average_drop, 1)
    37.5
    """
    if (
        not (whole.shape == kept.shape == left.shape)
        or whole.dim() != 2
        or not len(whole)
    ):
        raise ShapeError(
            "probabilities must be three tensors (N, n_classes) of equal shape, got "
            f"{tuple(whole.shape)}, {tuple(kept.shape)}, {tuple(left.shape)}"
        )
    classes = whole.argmax(1, keepdim=True)
    before, after, without = (p.gather(1, classes) for p in (whole, kept, left))
    fall, rise = (before - after).clamp(min=0), (after - before).clamp(min=0)
    # The clamps only avoid 0 / 0: if the probability of c is 1, it cannot rise.
    tiny = torch.finfo(whole.dtype).tiny
    drop, gain = fall / before.clamp(min=tiny), rise / (1 - before).clamp(min=tiny)
    return ExplanationMetrics(
        float((kept.argmax(1, keepdim=True) == classes).to(whole.dtype).mean()),
        float((before - without).mean()),
        100 * float((after > before).to(whole.dtype).mean()),
        100 * float(drop.mean()),
        100 * float(gain.clamp(max=1).mean()),
    )
