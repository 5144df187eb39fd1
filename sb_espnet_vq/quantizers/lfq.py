"""`lfq`: the signs of a vector."""

from torch import Tensor

from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.options import in_range
from sb_espnet_vq.quantizers.signs import SignQuantizer


class LFQ(SignQuantizer):
    """Lookup-free quantizer: D bits, one for each sign.

    Yu et al. 2023, "MAGVIT-v2", https://arxiv.org/abs/2310.05737, section 3.1: a frame
    is quantized to its signs, 1 and -1, where 0 counts as negative (equation 3), with
    straight-through gradient. The first dim is the most significant bit of the code.

    The entropy term (equation 5) is the mean entropy of each frame's soft assignment
    minus ``diversity_gamma`` times the entropy of the mean assignment, with assignment
    probabilities softmax(2 * inv_temperature * x . c) over all 2^D codes c. Both are
    exact and need no table of codes for each frame. Codes, values, losses and gradients
    are those of vector-quantize-pytorch's ``LFQ`` with the same weights, which clamps
    probabilities at 1e-5 in logarithms.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int, optional
        2**D codes, D from 1 to 62. Default: 2**dim. Where D differs from ``dim``,
        learned projections lead in and out.
    entropy_weight : float, optional
        Weight of the entropy term. Must be 0 above 2**24 codes, where the mean
        assignment outgrows memory. Default: 0.1, or 0 there.
    diversity_gamma : float
        Weight of evenness against confidence within the entropy term.
    inv_temperature : float
        Of the soft assignment, > 0; higher is harder.
    commitment_weight : float
        Weight of the mean squared distance of frames, behind the projection, to their
        signs. It keeps them near 1 and -1, which the entropy term does not.
    frozen : bool
        No updates in training; gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Example
    -------
    >>> import torch
    >>> q = LFQ(dim=10)
    >>> out = q(torch.randn(2, 50, 10))
    >>> q.codebook_size, out.codes.shape, out.quantized.unique()
    (1024, torch.Size([2, 50, 1]), tensor([-1., 1.]))
    """

    magnitude = 1.0

    def __init__(
        self,
        dim: int,
        codebook_size: int | None = None,
        entropy_weight: float | None = None,
        diversity_gamma: float = 1.0,
        inv_temperature: float = 100.0,
        commitment_weight: float = 0.25,
        frozen: bool = False,
    ):
        super().__init__(
            dim, codebook_size, entropy_weight, diversity_gamma, inv_temperature, frozen
        )
        weight = in_range("commitment_weight", commitment_weight, 0, float("inf"))
        self.loss_weights["commitment"] = weight

    def logits(self, points: Tensor, inv_temperature: float) -> Tensor:
        """Return the log-odds of signs; codes lie on a sphere of radius sqrt(bits)."""
        return super().logits(points, inv_temperature * self.bits**0.5)

    def loss_terms(
        self, frames: Frames, points: Tensor, signs: Tensor
    ) -> dict[str, Tensor]:
        """Return the commitment term."""
        return {"commitment": frames.mean_square(points, signs)}
