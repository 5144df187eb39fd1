"""What quantizers whose codes are signs share: bits, projections, the entropy term."""

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.entropy import entropy, sign_entropy
from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.ops.sign_patterns import summed_pattern_probs
from sb_espnet_vq.ops.sphere import sign_codes, sign_logits
from sb_espnet_vq.quantizers.base import Quantized, Quantizer, QuantizerOutput
from sb_espnet_vq.quantizers.grid import Grid
from sb_espnet_vq.quantizers.options import in_range, positive_int, true_or_false
from sb_espnet_vq.quantizers.precision import project, table_dtype

_MAX_BITS = 62
_MAX_ENTROPY_BITS = 24


class SignQuantizer(Quantizer):
    """Base of `BSQ` and `LFQ`: D bits, one for each sign, all of equal magnitude.

    The first dim is the most significant bit of the code, and 0 counts as negative. The
    entropy term is the mean entropy of each frame's soft assignment minus
    ``diversity_gamma`` times the entropy of the mean assignment. Both are exact: bits
    are independent within a frame, so the first is a sum over bits, and the mean
    assignment is one matrix product.

    Arguments
    ---------
    dim, codebook_size, entropy_weight, diversity_gamma, inv_temperature, frozen
        As in `BSQ`.

    Raises
    ------
    ConfigError
        If an option is out of range.
    """

    has_table = False
    takes_inv_temperature = True

    #: The absolute value of each dim of a code.
    magnitude: float

    def __init__(
        self,
        dim: int,
        codebook_size: int | None,
        entropy_weight: float | None,
        diversity_gamma: float,
        inv_temperature: float,
        frozen: bool,
    ):
        size = 2 ** positive_int("dim", dim) if codebook_size is None else codebook_size
        bits = _bits(type(self).__name__.lower(), size, dim)
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
        # Without the entropy term nobody pays for 2**bits probabilities.
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

    @property
    def grid(self) -> Grid:
        """Two values for each bit."""
        return Grid((2,) * self.bits, self.magnitude)

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
            Of the soft assignment, in this call. Default: the constructor's.

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

    def points(self, x: Tensor) -> Tensor:
        """Return the vectors (N, bits) of frames (N, dim) of which signs are taken."""
        return project(self.project_in, x)

    def logits(self, points: Tensor, inv_temperature: float) -> Tensor:
        """Return the log-odds (N, bits) of each sign in the soft assignment."""
        return sign_logits(points, inv_temperature)

    def loss_terms(
        self, frames: Frames, points: Tensor, signs: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms beside the entropy term, by name; none by default."""
        return {}

    def entropy_term(self, frames: Frames, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the entropy of frames minus gamma times that of the mean.

        Arguments
        ---------
        frames : Frames
            What ``logits`` were made of.
        logits : torch.Tensor
            (N, bits).

        Returns
        -------
        term : torch.Tensor
            Scalar in nats.
        usage : torch.Tensor
            (2**bits,) the mean assignment, over the frames of all ranks.
        """
        of_frames = frames.mean(sign_entropy(logits))
        usage = frames.mean_of_sum(summed_pattern_probs(logits, frames.weight))
        return of_frames - self.diversity_gamma * entropy(usage), usage

    def _quantize(
        self, frames: Frames, inv_temperature: float | None = None
    ) -> Quantized:
        if inv_temperature is None:
            inv_temperature = self.inv_temperature
        points = self.points(frames.x)
        codes = self._codes(points)
        signs = self._signs(codes)
        value = project(self.project_out, straight_through(points, signs))
        terms = self.loss_terms(frames, points, signs)
        if self.loss_weights["entropy"] == 0:
            return Quantized(value, codes, terms)
        logits = self.logits(points, inv_temperature)
        terms["entropy"], usage = self.entropy_term(frames, logits)
        return Quantized(value, codes, terms, usage=usage[None])

    def _search(self, frames: Frames) -> Tensor:
        return self._codes(self.points(frames.x))

    def _codes(self, points: Tensor) -> Tensor:
        return sign_codes(points, self._bit_values(points))[:, None]

    def _signs(self, codes: Tensor) -> Tensor:
        positive = (codes.clamp(min=0) & self._bit_values(codes)) != 0
        # The dtype of the weights, not of the frames, so that decode agrees.
        dtype = torch.float32
        if isinstance(self.project_out, nn.Linear):
            dtype = table_dtype(self.project_out.weight)
        signs = (positive.to(dtype) * 2 - 1) * self.magnitude
        return torch.where(codes >= 0, signs, 0)

    def _decode(self, codes: Tensor) -> Tensor:
        return project(self.project_out, self._signs(codes))

    def _bit_values(self, like: Tensor) -> Tensor:
        # Powers, since ONNX supports shifts only for unsigned integers.
        return 2 ** torch.arange(self.bits - 1, -1, -1, device=like.device)


def _bits(name: str, size: int, dim: int) -> int:
    bits = positive_int("codebook_size", size).bit_length() - 1
    if size != 2**bits or not 1 <= bits <= _MAX_BITS:
        near = sorted({2 ** max(1, min(n, _MAX_BITS)) for n in (bits, bits + 1)})
        options = " or ".join(f"codebook_size={n}" for n in near)
        raise ConfigError(
            f"{name} needs a codebook_size that is a power of two up to "
            f"2**{_MAX_BITS}, got {size}; add {options} to its options, or leave it "
            f"out for one bit per dimension (here {dim})"
        )
    return bits
