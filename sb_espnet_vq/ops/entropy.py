"""Entropies of code probabilities, in nats."""

import torch
import torch.nn.functional as F
from torch import Tensor


def entropy(probs: Tensor, epsilon: float = 1e-10) -> Tensor:
    """Return -sum p log(p + epsilon) over the last axis.

    Arguments
    ---------
    probs : torch.Tensor
        (..., V), non-negative.
    epsilon : float
        Keeps the gradient finite at p = 0.

    Returns
    -------
    torch.Tensor
        (...) in nats.

    Example
    -------
    >>> round(entropy(torch.full((4,), 0.25)).exp().item(), 3)
    4.0
    """
    return -(probs * (probs + epsilon).log()).sum(-1)


def sign_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of independent signs, summed over the last axis.

    Arguments
    ---------
    logits : torch.Tensor
        (..., D) log-odds of each sign being positive.

    Returns
    -------
    torch.Tensor
        (...) in nats, between 0 and D log 2.

    Example
    -------
    >>> sign_entropy(torch.zeros(1, 3)) / torch.tensor(2.0).log()
    tensor([3.])
    """
    # H = log(1 + e^-|l|) + |l| sigmoid(-|l|), stable for large |l|.
    size = logits.abs()
    return (F.softplus(-size) + size * torch.sigmoid(-size)).sum(-1)
