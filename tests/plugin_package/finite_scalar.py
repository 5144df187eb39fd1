"""`finite_scalar`: round each of a few channels to a few levels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq import ConfigError, Quantizer
from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import Quantized
from sb_espnet_vq.quantizers.precision import table_dtype


class FiniteScalar(Quantizer):
    """Finite scalar quantizer: no codebook to learn, so none to collapse.

    Mentzer et al. 2023, https://arxiv.org/abs/2309.15505, section 3: a frame is
    projected to C channels, each of which tanh and rounding map to one of L levels
    uniformly spaced in [-1, 1]. The code is the number whose digits in base L are
    the channels' levels, the first channel the most significant.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        L**C codes for some C.
    levels : int
        L, at least 2.

    Raises
    ------
    ConfigError
        If levels is below 2 or codebook_size is not a power of it.

    Example
    -------
    >>> q = FiniteScalar(dim=8, codebook_size=64, levels=4)
    >>> out = q(torch.randn(2, 50, 8))
    >>> q.channels, out.codes.shape
    (3, torch.Size([2, 50, 1]))
    """

    # No tensor grows with codebook_size, so that 2**40 codes are possible.
    has_table = False

    def __init__(self, dim: int, codebook_size: int = 1024, levels: int = 4):
        super().__init__(dim, codebook_size)
        self.levels = levels
        self.channels = _channels(codebook_size, levels)
        self.project_in = nn.Linear(dim, self.channels)
        # No bias, so that a missing code contributes nothing.
        self.project_out = nn.Linear(self.channels, dim, bias=False)

    def _quantize(self, frames: Frames) -> Quantized:
        squashed = self._squash(frames.x)
        codes = self._codes(squashed)
        values = self._values(codes)
        values = straight_through(squashed.to(values.dtype), values)
        return Quantized(self._outward(values), codes, terms={})

    def _search(self, frames: Frames) -> Tensor:
        return self._codes(self._squash(frames.x))

    def _decode(self, codes: Tensor) -> Tensor:
        return self._outward(self._values(codes))

    def _squash(self, x: Tensor) -> Tensor:
        weight, bias = self.project_in.weight, self.project_in.bias
        return F.linear(x, weight.to(x.dtype), bias.to(x.dtype)).tanh()

    def _codes(self, squashed: Tensor) -> Tensor:
        digits = ((squashed + 1) * ((self.levels - 1) / 2)).round().long()
        return (digits * self._places(digits)).sum(-1, keepdim=True)

    def _values(self, codes: Tensor) -> Tensor:
        digits = codes.clamp(min=0) // self._places(codes) % self.levels
        # The dtype of the weights, not of the input, so that decode agrees.
        digits = digits.to(table_dtype(self.project_out.weight))
        return torch.where(codes >= 0, digits * (2 / (self.levels - 1)) - 1, 0)

    def _outward(self, values: Tensor) -> Tensor:
        return F.linear(values, self.project_out.weight.to(values.dtype))

    def _places(self, like: Tensor) -> Tensor:
        exponents = torch.arange(self.channels - 1, -1, -1, device=like.device)
        return self.levels**exponents


def _channels(size: int, levels: int) -> int:
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
        raise ConfigError(f"levels must be an integer of at least 2, got {levels!r}")
    channels = 1
    while levels**channels < size:
        channels += 1
    if levels**channels != size:
        raise ConfigError(
            f"finite_scalar needs a codebook_size that is a power of levels={levels}, "
            f"got {size}; near it are {levels ** (channels - 1)} and {levels**channels}"
        )
    return channels
