"""Probabilities of all patterns of independent signs.

Signs are independent within a frame, so the probability of a pattern is the product of
those of its two halves. The sum over frames is then one product of two matrices of
width 2^(D/2), whereas a direct sum needs 2^D values for each frame.
"""

from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.ops.nearest import tiles


def sign_probs(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probabilities of positive and negative signs, at least 4e-18.

    Arguments
    ---------
    logits : torch.Tensor
        (...) log-odds of a positive sign.

    Returns
    -------
    positive, negative : torch.Tensor
        (...) each.

    Example
    -------
    >>> sign_probs(torch.tensor([0.0, 99.0]))
    (tensor([0.5000, 1.0000]), tensor([5.0000e-01, 4.2484e-18]))
    """
    # See `sign_pattern_probs`.
    logits = logits.clamp(-40.0, 40.0)
    return torch.sigmoid(logits), torch.sigmoid(-logits)


def sign_pattern_probs(positive: Tensor, negative: Tensor) -> Tensor:
    """Return the probability of each of the 2^D sign patterns.

    Arguments
    ---------
    positive, negative : torch.Tensor
        (D, N) probabilities of each sign; D may be 0. Frames are the last axis, since
        the first axis of the result doubles at each step and vector instructions need a
        long last axis.

    Returns
    -------
    torch.Tensor
        (2^D, N), 0 where below 1e-18; axis 0 counts in binary, the first sign most
        significant.

    Example
    -------
    >>> half, sure = torch.tensor([0.5]), torch.tensor([1.0])
    >>> sign_pattern_probs(torch.stack([half, sure]), torch.stack([half, 1 - sure]))
    tensor([[0.0000],
            [0.5000],
            [0.0000],
            [0.5000]])
    """
    # Written so that torch.jit.script supports it, see `pattern_product`. Without the
    # threshold there would be denormal floats, in the products of the halves as well.
    # With them, this takes ten times as long on Intel's processors.
    probs = positive.new_ones([1, positive.shape[1]])
    for bit in range(len(positive) - 1, -1, -1):
        probs = torch.cat([probs * negative[bit], probs * positive[bit]])
        probs = torch.threshold(probs, 1e-18, 0.0)
    return probs


class _SummedPatternProbs(torch.autograd.Function):
    @staticmethod
    def forward(logits: Tensor, weight: Tensor) -> Tensor:
        total = logits.new_zeros(_widths(logits))
        for tile in _tiles(logits):
            first, second = _halves(logits[tile])
            total += (first.probs * weight[tile]) @ second.probs.t()
        return total.flatten()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        logits, weight = ctx.saved_tensors
        slope = grads[0].view(_widths(logits))
        grad = torch.empty_like(logits)
        # Recomputing the probabilities is cheaper than keeping them for every frame.
        for tile in _tiles(logits):
            first, second = _halves(logits[tile])
            weighted = first.probs * weight[tile]
            grad_first = first.slope((slope @ second.probs) * weighted)
            grad_second = second.slope((slope.t() @ weighted) * second.probs)
            grad[tile] = torch.cat([grad_first, grad_second]).t()
        return grad, None


def summed_pattern_probs(logits: Tensor, weight: Tensor) -> Tensor:
    """Sum the probabilities of all 2^D sign patterns over frames, exactly.

    It needs memory for the result and for one tile of frames.

    Arguments
    ---------
    logits : torch.Tensor
        (N, D) log-odds of each sign being positive.
    weight : torch.Tensor
        (N,) weight of each frame; it gets no gradient.

    Returns
    -------
    torch.Tensor
        (2^D,), the first sign most significant.

    Example
    -------
    >>> summed_pattern_probs(torch.zeros(4, 2), torch.ones(4))
    tensor([1., 1., 1., 1.])
    """
    if torch.jit.is_tracing():
        return pattern_product(logits, weight)
    return _SummedPatternProbs.apply(logits, weight)


def pattern_product(logits: Tensor, weight: Tensor) -> Tensor:
    """Compute `summed_pattern_probs` without a custom autograd function.

    For torch.jit.script and torch.jit.trace, which cannot save custom autograd
    functions. It keeps the probabilities of all frames for the backward pass.

    Arguments
    ---------
    logits, weight : torch.Tensor
        As in `summed_pattern_probs`.

    Returns
    -------
    torch.Tensor
        (2^D,).

    Example
    -------
    >>> pattern_product(torch.zeros(4, 2), torch.ones(4))
    tensor([1., 1., 1., 1.])
    """
    positive, negative = sign_probs(logits.t())
    half = len(positive) // 2
    first = sign_pattern_probs(positive[:half], negative[:half])
    second = sign_pattern_probs(positive[half:], negative[half:])
    return ((first * weight) @ second.t()).flatten()


class _Half:
    """Probabilities of the patterns of half of the signs, for some frames."""

    def __init__(self, logits: Tensor):
        self.positive, self.negative = sign_probs(logits.t().contiguous())
        self.probs = sign_pattern_probs(self.positive, self.negative)

    def slope(self, moved: Tensor) -> Tensor:
        """Return the gradient (D, N) to logits, given that to log probs (2^D, N).

        The derivative of log p with respect to a logit is the probability of a negative
        sign if the sign is positive, and minus that of a positive sign otherwise.
        """
        signs = len(self.positive)
        pattern = torch.arange(len(moved), device=moved.device)
        bit = torch.arange(signs - 1, -1, -1, device=moved.device)
        is_positive = ((pattern >> bit[:, None]) & 1).to(moved.dtype)
        up, down = is_positive @ moved, (1 - is_positive) @ moved
        return self.negative * up - self.positive * down


def _halves(logits: Tensor) -> tuple[_Half, _Half]:
    half = logits.shape[1] // 2
    return _Half(logits[:, :half]), _Half(logits[:, half:])


def _widths(logits: Tensor) -> tuple[int, int]:
    half = logits.shape[1] // 2
    return 2**half, 2 ** (logits.shape[1] - half)


def _tiles(logits: Tensor) -> list[slice]:
    return tiles(logits, sum(_widths(logits)))
