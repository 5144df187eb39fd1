"""Output types of quantizers: public for batches, internal for flat frames."""

from typing import NamedTuple

from torch import Tensor


class QuantizerOutput(NamedTuple):
    """The output of a quantizer for a batch.

    Arguments
    ---------
    quantized : torch.Tensor
        (..., D) in the dtype of the input; 0 without gradient at padding, NaN where
        the input is not finite.
    codes : torch.Tensor
        (..., K) int64; -1 at padding and non-finite frames and, in training, at
        dropped codebooks.
    loss : torch.Tensor
        Scalar float32, weighted sum of the loss terms, to be added to the trainer's
        loss.
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
        (N, dim) quantized frames with their gradient.
    codes : torch.Tensor
        (N, K) int64, -1 for a missing code; at invalid frames any code in range.
    terms : dict
        Each loss term by name: its mean over frames and codebooks, before its weight
        in ``loss_weights``.
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
