"""`bsq`: binary spherical quantization, the signs of a unit vector."""

from torch import Tensor

from sb_espnet_vq.ops.sphere import unit_vectors
from sb_espnet_vq.quantizers.signs import SignQuantizer


class BSQ(SignQuantizer):
    """Binary spherical quantizer: D bits, the signs of the normalized frame.

    Zhao et al. 2024, https://arxiv.org/abs/2406.07548, section 3: a frame is
    normalized to u and quantized to sign(u) / sqrt(D), where the sign of 0 is negative.
    The first dimension is the most significant bit of the code.

    The entropy term is the mean entropy of each frame's soft assignment minus
    ``diversity_gamma`` times the entropy of the mean assignment, with assignment
    probabilities softmax(2 * inv_temperature * u . c) over all 2^D codes c. Both
    are exact: bits are independent within a frame (equations 8 and 9), so the
    first is a sum over bits, and the mean assignment is a single matrix product.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int, optional
        2**D codes, D from 1 to 62. Default: 2**dim. If D differs from ``dim``, there
        are learned input and output projections.
    entropy_weight : float, optional
        Weight of the entropy term. Must be 0 above 2**24 codes, where the mean
        assignment needs too much memory. Default: 0.1, or 0 above that size.
    diversity_gamma : float
        Weight of the entropy of the mean assignment within the entropy term.
    inv_temperature : float
        Inverse temperature of the soft assignment, > 0; higher is harder.
    frozen : bool
        No updates in training; gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Example
    -------
    >>> import torch
    >>> q = BSQ(dim=13)
    >>> out = q(torch.randn(2, 50, 13))
    >>> q.codebook_size, out.codes.shape
    (8192, torch.Size([2, 50, 1]))
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int | None = None,
        entropy_weight: float | None = None,
        diversity_gamma: float = 1.0,
        inv_temperature: float = 100.0,
        frozen: bool = False,
    ):
        super().__init__(
            dim, codebook_size, entropy_weight, diversity_gamma, inv_temperature, frozen
        )
        self.magnitude = self.bits**-0.5

    def points(self, x: Tensor) -> Tensor:
        """Return the unit vectors (N, bits) of which signs are taken."""
        return unit_vectors(super().points(x))
