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


def sign_pattern_probs(logits: Tensor) -> Tensor:
    """Return the probability of each of the 2^D sign patterns.

    Arguments
    ---------
    logits : torch.Tensor
        (N, D) log-odds of each sign being positive; D may be 0.

    Returns
    -------
    torch.Tensor
        (N, 2^D); axis 1 counts in binary, the first sign most significant.

    Example
    -------
    >>> sign_pattern_probs(torch.tensor([[0.0, 100.0]]))
    tensor([[0.0000, 0.5000, 0.0000, 0.5000]])
    """
    positive = torch.sigmoid(logits)
    negative = torch.sigmoid(-logits)
    probs = logits.new_ones(logits.shape[0], 1)
    for bit in range(logits.shape[1]):
        choice = torch.stack([negative[:, bit], positive[:, bit]], 1)
        probs = (probs[:, :, None] * choice[:, None, :]).flatten(1)
    return probs


def summed_pattern_probs(logits: Tensor, weight: Tensor) -> Tensor:
    """Sum the probabilities of all 2^D sign patterns over frames, exactly.

    Signs are independent within a frame, so a pattern's probability is that of its
    first half times that of its second. The sum over frames is then one product of
    two tables of width 2^(D/2), where a direct sum would build 2^D for each frame.

    Arguments
    ---------
    logits : torch.Tensor
        (N, D) log-odds.
    weight : torch.Tensor
        (N,) weight of each frame.

    Returns
    -------
    torch.Tensor
        (2^D,), the first sign most significant.

    Example
    -------
    >>> summed_pattern_probs(torch.zeros(4, 2), torch.ones(4))
    tensor([1., 1., 1., 1.])
    """
    half = logits.shape[1] // 2
    first = sign_pattern_probs(logits[:, :half]) * weight[:, None]
    second = sign_pattern_probs(logits[:, half:])
    return (first.t() @ second).flatten()
