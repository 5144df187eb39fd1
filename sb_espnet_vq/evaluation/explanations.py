"""Figures of explanations that are masks: what a classifier makes of either side.

Paissan et al. 2024, "Listenable Maps for Audio Classifiers", gathers them; AD and AI
are of Chattopadhay et al. 2018, "Grad-CAM++", AG of Zhang et al. 2024, "Opti-CAM".
A classifier hears a clip whole, then what a mask keeps of it, then what it leaves out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sb_espnet_vq.errors import ShapeError


class ExplanationFigures(NamedTuple):
    """Means over clips; c is the class that the classifier gives the whole clip.

    Arguments
    ---------
    input_fidelity : float
        Share of clips of which what is kept has class c too. Higher is better.
    faithfulness : float
        How much less probable c is in what is left out, in [-1, 1]. Higher is better.
    average_increase : float
        AI, percent of clips of which c is more probable in what is kept. Higher is
        better.
    average_drop : float
        AD, percent of the probability of c that what is kept loses. Lower is better.
    average_gain : float
        AG, percent of the probability that c lacked and what is kept has. Higher is
        better.
    """

    input_fidelity: float
    faithfulness: float
    average_increase: float
    average_drop: float
    average_gain: float


def explanation_figures(
    whole: Tensor, kept: Tensor, left: Tensor
) -> ExplanationFigures:
    """Compare a classifier's probabilities.

    Arguments
    ---------
    whole, kept, left : torch.Tensor
        (N, n_classes) float, probabilities for whole clips, for what the mask keeps and
        for what it leaves out. Use float64: near 1, float32 cannot tell them apart.

    Returns
    -------
    ExplanationFigures

    Raises
    ------
    ShapeError
        If the shapes differ or there is no clip.

    Example
    -------
    >>> whole = torch.tensor([[0.5, 0.5 - 1e-6], [0.2, 0.8]], dtype=torch.float64)
    >>> kept, left = whole.flip(1), torch.full_like(whole, 0.5)
    >>> figures = explanation_figures(whole, kept, left)
    >>> figures.input_fidelity, round(figures.faithfulness, 3)
    (0.0, 0.15)
    >>> round(figures.average_drop, 1)
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
    lost, won = (before - after).clamp(min=0), (after - before).clamp(min=0)
    # The clamps guard 0 / 0 alone: where c is certain, there is nothing to win.
    tiny = torch.finfo(whole.dtype).tiny
    drop, gain = lost / before.clamp(min=tiny), won / (1 - before).clamp(min=tiny)
    return ExplanationFigures(
        float((kept.argmax(1, keepdim=True) == classes).to(whole.dtype).mean()),
        float((before - without).mean()),
        100 * float((after > before).to(whole.dtype).mean()),
        100 * float(drop.mean()),
        100 * float(gain.clamp(max=1).mean()),
    )
