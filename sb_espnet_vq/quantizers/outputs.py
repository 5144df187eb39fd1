"""What quantizers return: to users for a batch, and to the base class for frames."""

from typing import NamedTuple

from torch import Tensor


class QuantizerOutput(NamedTuple):
    """What a quantizer returns.

    Arguments
    ---------
    quantized : torch.Tensor
        (..., D) in the dtype of the input; 0 without gradient where masked, NaN
        where the input was not finite.
    codes : torch.Tensor
        (..., K) int64, -1 where there is no valid frame.
    loss : torch.Tensor
        Scalar float32 to add to the trainer's own loss.
    stats : dict
        Detached scalars: ``perplexity`` and ``used_codes`` (means over codebooks)
        and each loss term before its weight.
    """

    quantized: Tensor
    codes: Tensor
    loss: Tensor
    stats: dict[str, Tensor]


class Quantized(NamedTuple):
    """What the method ``_quantize`` of a quantizer returns for flat frames.

    Arguments
    ---------
    value : torch.Tensor
        (N, dim), with whatever gradient it should carry.
    codes : torch.Tensor
        (N, K) int64; -1 allowed, and anything in range at invalid frames.
    terms : dict
        Name of each loss term and its mean over frames, averaged over codebooks;
        the weights are in the quantizer's ``loss_weights``.
    counts : torch.Tensor, optional
        (K, V) uses of each code over all ranks, if they were computed anyway.
    usage : torch.Tensor, optional
        (K, V) mean probability of each code over the valid frames of all ranks,
        with gradient (see ``gives_probabilities``).
    kept : torch.Tensor, optional
        (N, K) bool, False where training dropped a codebook for a frame: the value
        leaves it out. None if every codebook was kept.
    """

    value: Tensor
    codes: Tensor
    terms: dict[str, Tensor]
    counts: Tensor | None = None
    usage: Tensor | None = None
    kept: Tensor | None = None
