"""`fsq`: each of a few channels rounded to a few levels."""

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.finite_levels import (
    finite_levels,
    level_codes,
    level_values,
    levels_of_codes,
)
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.ops.symmetric_levels import symmetric_levels, symmetric_values
from sb_espnet_vq.quantizers.base import Quantized, Quantizer
from sb_espnet_vq.quantizers.grid import Grid
from sb_espnet_vq.quantizers.options import integer_from, plain, true_or_false
from sb_espnet_vq.quantizers.precision import project, table_dtype

_FEWEST, _MOST = 3, 2**62
# Table 1 of the paper: the levels for about as many codes. That for 2**12 gives more
# codes (4375), which a network with an output for each of 2**12 could not take.
_RECOMMENDED = {
    2**8: (8, 6, 5),
    2**10: (8, 5, 5, 5),
    2**14: (8, 8, 8, 6, 5),
    2**16: (8, 8, 8, 5, 5, 5),
}


class FSQ(Quantizer):
    """Finite scalar quantizer: no codebook to learn, so no code to die.

    Mentzer et al. 2023, https://arxiv.org/abs/2309.15505, section 3.1: channel i is
    squashed by tanh and rounded to one of L_i levels, with straight-through gradient.
    The codes number all combinations, the first channel least significant. Codes,
    values and gradients are those of vector-quantize-pytorch's ``FSQ`` with its default
    options (``preserve_symmetry=False``): an even number of levels includes 0 and has
    one level more below it than above.

    Arguments
    ---------
    dim : int
        Width of the frames. If it differs from the number of levels, there are learned
        input and output projections.
    codebook_size : int
        Without ``levels``, the most codes there may be, from 3 to 2**62. 2**8, 2**10,
        2**14 and 2**16 give the levels of the paper's table 1, with 240, 1000, 15360
        and 64000 codes. Other sizes give the most codes possible with the fewest
        channels of 4 to 8 levels (3 to 8 below 16 codes): all of 2**9, 2**11 or 2**12.
        ``repr`` shows the levels; the attribute ``codebook_size`` is their product.
    levels : sequence of int, optional
        Levels of each channel, at least 3. ``codebook_size`` is then not used.
    symmetric : bool
        Space the levels evenly from -1 to 1, both included, and clip the channel to
        this range instead of squashing it by tanh (Parker et al. 2024,
        https://arxiv.org/abs/2411.19842, section 3.2, without its tanh). `residual`
        sets it, since the levels of a chain refine each other only on such a grid.
    frozen : bool
        No updates in training; gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Buffers
    -------
    n_levels : (C,) int64, the levels. A state with others is refused.

    Example
    -------
    >>> import torch
    >>> q = FSQ(dim=4, levels=[8, 5, 5, 5])
    >>> out = q(torch.randn(2, 50, 4))
    >>> q.codebook_size, out.codes.shape
    (1000, torch.Size([2, 50, 1]))
    >>> FSQ(dim=16, codebook_size=320).levels
    (8, 8, 5)
    """

    has_table = False

    n_levels: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        levels: Sequence[int] | None = None,
        symmetric: bool = False,
        frozen: bool = False,
    ):
        numbers = _levels_for(codebook_size) if levels is None else _checked(levels)
        super().__init__(dim, math.prod(numbers))
        self.levels = numbers
        self.symmetric = true_or_false("symmetric", symmetric)
        # A buffer, since copying numbers to a GPU in each step would synchronize it.
        self.register_buffer("n_levels", torch.tensor(numbers))
        channels = len(numbers)
        same = channels == dim
        self.project_in = nn.Identity() if same else nn.Linear(dim, channels)
        # No bias, so that a missing code contributes nothing.
        self.project_out = (
            nn.Identity() if same else nn.Linear(channels, dim, bias=False)
        )
        if true_or_false("frozen", frozen):
            self.requires_grad_(False)

    @property
    def grid(self) -> Grid | None:
        """The levels, if they are symmetric."""
        return Grid(self.levels, 1.0) if self.symmetric else None

    def extra_repr(self) -> str:
        """Name the sizes and the levels in ``repr``."""
        return f"{super().extra_repr()}, levels={list(self.levels)}"

    def _quantize(self, frames: Frames) -> Quantized:
        levels = self._levels(frames.x)
        value = project(self.project_out, self._values(levels))
        return Quantized(value, self._codes(levels), {})

    def _search(self, frames: Frames) -> Tensor:
        return self._codes(self._levels(frames.x))

    def _decode(self, codes: Tensor) -> Tensor:
        levels = levels_of_codes(codes[:, 0].clamp(min=0), self.levels)
        values = self._values(levels.to(self._dtype()))
        return project(self.project_out, torch.where(codes >= 0, values, 0))

    def _codes(self, levels: Tensor) -> Tensor:
        return level_codes(levels.detach(), self.n_levels, self.codebook_size)[:, None]

    def _levels(self, x: Tensor) -> Tensor:
        channels = project(self.project_in, x)
        to_levels = symmetric_levels if self.symmetric else finite_levels
        return to_levels(channels, self.n_levels, self._dtype())

    def _values(self, levels: Tensor) -> Tensor:
        to_values = symmetric_values if self.symmetric else level_values
        return to_values(levels, self.n_levels)

    def _dtype(self) -> torch.dtype:
        # That of the weights, not of the frames, so that decode agrees.
        if isinstance(self.project_out, nn.Linear):
            return table_dtype(self.project_out.weight)
        return torch.float32

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        stored = state_dict.get(f"{prefix}n_levels")
        if stored is not None and tuple(stored.tolist()) != self.levels:
            raise ConfigError(
                f"the state has levels {stored.tolist()}, this fsq has "
                f"{list(self.levels)}, with which codes mean other values; build it "
                f"with levels={stored.tolist()}"
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _checked(levels: Sequence[int]) -> tuple[int, ...]:
    levels = plain(levels)
    if not isinstance(levels, (list, tuple)) or not levels:
        raise ConfigError(
            "levels must be a list of integers, one for each channel, as "
            f"[8, 5, 5, 5]; got {levels!r}"
        )
    numbers = tuple(integer_from(_FEWEST, "each of levels", each) for each in levels)
    if math.prod(numbers) > _MOST:
        raise ConfigError(f"levels must give at most 2**62 codes, got {levels!r}")
    return numbers


def _levels_for(size: int) -> tuple[int, ...]:
    """Return the levels for at most ``size`` codes."""
    size = integer_from(_FEWEST, "codebook_size of fsq", size)
    if size > _MOST:
        raise ConfigError(f"codebook_size of fsq must be at most 2**62, got {size}")
    if size in _RECOMMENDED:
        return _RECOMMENDED[size]
    channels = next(n for n in range(1, 63) if 8**n >= size)
    least = 4 if size >= 16 else _FEWEST
    if channels == 1:
        return (size,)
    choices = combinations_with_replacement(range(8, least - 1, -1), channels)
    fitting = [levels for levels in choices if math.prod(levels) <= size]
    # The most codes, and of these the most equal levels.
    return max(fitting, key=lambda levels: (math.prod(levels), levels[-1] - levels[0]))
