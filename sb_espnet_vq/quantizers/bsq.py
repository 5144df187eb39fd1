"""`bsq`: binary spherical quantization, the signs of a unit vector."""

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.entropy import entropy, sign_entropy
from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.ops.sign_patterns import summed_pattern_probs
from sb_espnet_vq.ops.sphere import sign_codes, sign_logits, unit_vectors
from sb_espnet_vq.quantizers.base import Quantized, Quantizer, QuantizerOutput
from sb_espnet_vq.quantizers.options import in_range, positive_int, true_or_false
from sb_espnet_vq.quantizers.precision import project, table_dtype

_MAX_BITS = 62
_MAX_ENTROPY_BITS = 24


class BSQ(Quantizer):
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

    has_table = False
    takes_inv_temperature = True

    def __init__(
        self,
        dim: int,
        codebook_size: int | None = None,
        entropy_weight: float | None = None,
        diversity_gamma: float = 1.0,
        inv_temperature: float = 100.0,
        frozen: bool = False,
    ):
        size = 2 ** positive_int("dim", dim) if codebook_size is None else codebook_size
        bits = _bits(size, dim)
        super().__init__(dim, size)
        self.bits = bits
        if entropy_weight is None:
            entropy_weight = 0.1 if self.bits <= _MAX_ENTROPY_BITS else 0.0
        in_range("entropy_weight", entropy_weight, 0, float("inf"))
        if entropy_weight > 0 and self.bits > _MAX_ENTROPY_BITS:
            raise ConfigError(
                f"entropy_weight must be 0 above 2**{_MAX_ENTROPY_BITS} codes, got "
                f"{entropy_weight} with 2**{self.bits}"
            )
        self.loss_weights = {"entropy": entropy_weight}
        # Without the entropy term, the 2**bits probabilities are not computed.
        self.gives_probabilities = entropy_weight > 0
        self.diversity_gamma = in_range(
            "diversity_gamma", diversity_gamma, 0, float("inf")
        )
        self.inv_temperature = in_range(
            "inv_temperature", inv_temperature, 1e-6, float("inf")
        )
        same = self.bits == dim
        self.project_in = nn.Identity() if same else nn.Linear(dim, self.bits)
        # No bias, so that a missing code contributes nothing.
        self.project_out = (
            nn.Identity() if same else nn.Linear(self.bits, dim, bias=False)
        )
        if true_or_false("frozen", frozen):
            self.requires_grad_(False)

    def on_sphere(self, x: Tensor) -> Tensor:
        """Return the projected and normalized frames (N, bits) of frames (N, dim)."""
        return unit_vectors(project(self.project_in, x))

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        n_codebooks: int | None = None,
        inv_temperature: float | None = None,
    ) -> QuantizerOutput:
        """Quantize a batch.

        Arguments
        ---------
        x, mask, labels, n_codebooks
            As in `Quantizer.forward`.
        inv_temperature : float, optional
            Inverse temperature of the soft assignment in this call. Default: that of
            the constructor.

        Returns
        -------
        QuantizerOutput

        Raises
        ------
        ShapeError, ConfigError
            As in `Quantizer.forward`.
        """
        options = {"inv_temperature": inv_temperature}
        return self._forward(x, mask, labels, n_codebooks, **options)[0]

    def entropy_term(
        self, frames: Frames, u: Tensor, inv_temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Return mean entropy of assignments minus gamma * entropy of their mean.

        Arguments
        ---------
        frames : Frames
            The frames from which ``u`` was computed.
        u : torch.Tensor
            (N, bits) unit vectors.
        inv_temperature : float
            Inverse temperature of the soft assignment.

        Returns
        -------
        term : torch.Tensor
            Scalar in nats.
        usage : torch.Tensor
            (2**bits,) the mean assignment, over the frames of all ranks.
        """
        logits = sign_logits(u, inv_temperature)
        of_frames = frames.mean(sign_entropy(logits))
        usage = frames.mean_of_sum(summed_pattern_probs(logits, frames.weight))
        return of_frames - self.diversity_gamma * entropy(usage), usage

    def _quantize(
        self, frames: Frames, inv_temperature: float | None = None
    ) -> Quantized:
        if inv_temperature is None:
            inv_temperature = self.inv_temperature
        u = self.on_sphere(frames.x)
        codes = self._codes(u)
        signs = straight_through(u, self._signs(codes))
        value = project(self.project_out, signs)
        if self.loss_weights["entropy"] == 0:
            return Quantized(value, codes, {})
        term, usage = self.entropy_term(frames, u, inv_temperature)
        return Quantized(value, codes, {"entropy": term}, usage=usage[None])

    def _search(self, frames: Frames) -> Tensor:
        return self._codes(self.on_sphere(frames.x))

    def _codes(self, u: Tensor) -> Tensor:
        return sign_codes(u, self._bit_values(u))[:, None]

    def _signs(self, codes: Tensor) -> Tensor:
        positive = (codes.clamp(min=0) & self._bit_values(codes)) != 0
        # The dtype of the weights, not of the frames, so that decode agrees.
        dtype = torch.float32
        if isinstance(self.project_out, nn.Linear):
            dtype = table_dtype(self.project_out.weight)
        signs = (positive.to(dtype) * 2 - 1) * self.bits**-0.5
        return torch.where(codes >= 0, signs, 0)

    def _decode(self, codes: Tensor) -> Tensor:
        return project(self.project_out, self._signs(codes))

    def _bit_values(self, like: Tensor) -> Tensor:
        # Powers, since ONNX supports shifts only for unsigned integers.
        return 2 ** torch.arange(self.bits - 1, -1, -1, device=like.device)


def _bits(size: int, dim: int) -> int:
    bits = positive_int("codebook_size", size).bit_length() - 1
    if size != 2**bits or not 1 <= bits <= _MAX_BITS:
        near = sorted({2 ** max(1, min(n, _MAX_BITS)) for n in (bits, bits + 1)})
        options = " or ".join(f"codebook_size={n}" for n in near)
        raise ConfigError(
            f"bsq needs a codebook_size that is a power of two up to 2**{_MAX_BITS}, "
            f"got {size}; add {options} to its options, or leave it out for one bit "
            f"per dimension (here {dim})"
        )
    return bits
