"""Return types of quantizers: for batches, and internally for flat frames."""

from typing import NamedTuple

from torch import Tensor


class QuantizerOutput(NamedTuple):
    """The output of a quantizer for a batch.

    Arguments
    ---------
    quantized : torch.Tensor
        (..., D) in the dtype of the input; 0 without gradient where masked, NaN
        where the input was not finite.
    codes : torch.Tensor
        (..., K) int64, -1 where there is no valid frame.
    loss : torch.Tensor
        Scalar float32, to be added to the trainer's loss.
    stats : dict
        Detached scalars: ``perplexity`` and ``used_codes`` (means over codebooks)
        and each loss term before its weight.
    """

    quantized: Tensor
    codes: Tensor
    loss: Tensor
    stats: dict[str, Tensor]


class Quantized(NamedTuple):
    """The output of ``_quantize`` for flat frames.

    Arguments
    ---------
    value : torch.Tensor
        (N, dim), with the intended gradient.
    codes : torch.Tensor
        (N, K) int64; may be -1, and at invalid frames any code in range.
    terms : dict
        Name of each loss term and its mean over frames, averaged over codebooks;
        the weights are in the quantizer's ``loss_weights``.
    counts : torch.Tensor, optional
        (K, V) count of each code over all ranks, if already computed.
    usage : torch.Tensor, optional
        (K, V) mean probability of each code over the valid frames of all ranks,
        with gradient (see ``gives_probabilities``).
    kept : torch.Tensor, optional
        (N, K) bool, False where training dropped a codebook for a frame, so that the
        value does not include it. None if every codebook was kept.
    """

    value: Tensor
    codes: Tensor
    terms: dict[str, Tensor]
    counts: Tensor | None = None
    usage: Tensor | None = None
    kept: Tensor | None = None
