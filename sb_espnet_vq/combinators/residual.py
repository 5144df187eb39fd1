"""`residual`: a chain of any quantizer, each on what the previous ones left."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sb_espnet_vq.combinators.composed import Composed, build_part
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import Quantized, Quantizer
from sb_espnet_vq.quantizers.chain import ChainQuantizer
from sb_espnet_vq.quantizers.grid import Grid
from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.quantizers.precision import project, table_dtype

_SCALES = ("fixed", "learned", "none")


class Residual(ChainQuantizer, Composed):
    """Residual chain of any quantizer: level k quantizes what the levels before left.

    Zeghidour et al. 2021, "SoundStream", https://arxiv.org/abs/2107.03312, algorithm 1.
    `rvq` is the same for `vq`, faster.

    Scales. `fsq`, `lfq` and `bsq` have fixed values: L in each channel, evenly from -e
    to e (`Quantizer.grid`). What is left of a channel is smaller by a factor of L.
    Channels are therefore squashed to the range that L cells cover, c tanh(x/c) with
    c = e L/(L-1), and level k = 0, 1, ... quantizes its residual divided by s_k = L^-k
    and multiplies the value by s_k. If the width of the frames is not the number of
    channels, learned projections lead to these and back, once around the chain. With
    `fsq` the codes and values are those of vector-quantize-pytorch's ``ResidualFSQ``.
    Codebooks adapt to the residuals, so that with `vq` there is no scale.

    Gradients. Residuals are those of fixed values, so that each level has its own
    gradient and the loss terms of all levels reach the frames. Each of the K levels
    that a frame uses gets a K-th of the gradient of the value: a chain of
    straight-through levels is the identity, as in `rvq`. (In ``ResidualFSQ`` the
    gradient is K times as large.)

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Codes in each codebook, for quantizers that choose no other number.
    n_codebooks : int
        Codes of a frame: the number of levels, if a level has one code.
    quantizer : str
        A registered name, or the full path of a class.
    quantizer_conf : Mapping, optional
        Options of the quantizer of each level.
    quantizer_dropout : bool
        In training, keep for each utterance only a random number of levels. Dropped
        codes are returned as -1; every level still learns from every frame, and its
        loss terms count every frame.
    inner_dim : int, optional
        Width in which the chain works. If it differs from ``dim``, there are learned
        projections around the chain. Default: the number of channels of a quantizer
        with fixed values, else ``dim``.
    scale : str
        ``fixed``: as above. ``learned``: the s_k are parameters that begin there (with
        codebooks at 1), one for each channel. ``none``: neither scaled nor squashed.
    frozen : bool
        No updates in training; gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is unknown or out of range.

    Buffers
    -------
    scales : (levels, inner_dim) s_k; only with ``fixed`` and a quantizer with fixed
        values.
    limits : (inner_dim,) c; only with a quantizer with fixed values, without ``none``.

    Example
    -------
    >>> conf = {"levels": [8, 5, 5, 5]}
    >>> q = Residual(dim=32, n_codebooks=3, quantizer="fsq", quantizer_conf=conf)
    >>> out = q(torch.randn(2, 50, 32))
    >>> out.codes.shape, q.codebook_sizes
    (torch.Size([2, 50, 3]), (1000, 1000, 1000))
    """

    contract_options = {"n_codebooks": 2}

    scales: Tensor | None
    limits: Tensor | None

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        n_codebooks: int = 8,
        quantizer: str = "vq",
        quantizer_conf: Mapping[str, Any] | None = None,
        quantizer_dropout: bool = False,
        inner_dim: int | None = None,
        scale: str = "fixed",
        frozen: bool = False,
    ):
        if scale not in _SCALES:
            raise ConfigError(
                f"scale must be one of {', '.join(_SCALES)}, got {scale!r}"
            )
        # `symmetric` concerns fsq: levels refine each other only on an even grid.
        words = {
            "dim": positive_int("dim", dim),
            "codebook_size": positive_int("codebook_size", codebook_size),
            "n_codebooks": 1,
            "symmetric": scale != "none" or None,
        }
        if inner_dim is not None:
            words["dim"] = positive_int("inner_dim", inner_dim)
        first = build_part(quantizer, words, quantizer_conf)
        grid = None if scale == "none" else first.grid
        if grid is not None and inner_dim is None and len(grid.levels) != dim:
            words["dim"] = len(grid.levels)
            first = build_part(quantizer, words, quantizer_conf)
        width = first.dim
        if grid is not None and len(grid.levels) != width:
            # Each level has projections of its own, which learn their scale.
            grid = None
        levels = _number_of_levels(n_codebooks, first)
        others = [
            build_part(quantizer, words, quantizer_conf) for _ in range(levels - 1)
        ]
        per = first.n_codebooks
        columns = [range(k * per, (k + 1) * per) for k in range(levels)]
        super().__init__(dim, [first, *others], columns, quantizer_dropout)
        self.takes_beam = not self.needs_labels
        self.inner_dim = width
        same = width == dim
        self.project_in = nn.Identity() if same else nn.Linear(dim, width)
        # No bias, so that a missing code contributes nothing.
        self.project_out = nn.Identity() if same else nn.Linear(width, dim, bias=False)
        self._make_scales(grid, levels, scale == "learned")
        self.freeze_if(frozen)

    def _make_scales(self, grid: Grid | None, levels: int, learned: bool) -> None:
        scales = torch.ones(levels, self.inner_dim)
        limits = None
        if grid is not None:
            numbers = torch.tensor(grid.levels, dtype=torch.float32)
            scales = numbers ** -torch.arange(levels)[:, None]
            limits = grid.extent * numbers / (numbers - 1)
        self.register_buffer("limits", limits)
        self.log_scales = nn.Parameter(scales.log()) if learned else None
        fixed = None if learned or grid is None else scales
        self.register_buffer("scales", fixed)

    def _quantize(self, frames: Frames) -> Quantized:
        frames = self._with_kept(frames)
        levels = self._levels_for(frames.n_codebooks)
        kept = self._kept_levels(frames, levels)
        number = levels if kept is None else kept.sum(1, keepdim=True).clamp(min=1)
        residual, values, results = self._inward(frames.x), [], {}
        for level in range(levels):
            scale = self._scale(level)
            inner = self._input_of(frames, level, residual, scale)
            result = self._parts()[level]._quantize(inner)
            value = _times(result.value, scale)
            residual = residual - value.detach()
            if kept is not None:
                mine = kept[:, level, None]
                value = value * mine
                result = result._replace(kept=mine.expand(result.codes.shape))
            values.append(value)
            results[level] = result
        total = _divided_gradient(_added(values), number)
        return self._joined(project(self.project_out, total), results)

    def _search_greedy(self, frames: Frames) -> Tensor:
        levels = self._levels_for(frames.n_codebooks)
        residual, codes = self._inward(frames.x), []
        for level, part in enumerate(self._parts()[:levels]):
            scale = self._scale(level)
            found = part._search(self._input_of(frames, level, residual, scale))
            codes.append(found)
            if level + 1 < levels:
                residual = residual - _times(part._decode(found), scale)
        return torch.cat(codes, 1)

    def _decode(self, codes: Tensor) -> Tensor:
        values = []
        for level, part in enumerate(self._parts()):
            mine = self._codes_of(codes, level)
            if mine is not None:
                values.append(_times(part._decode(mine), self._scale(level)))
        return project(self.project_out, _added(values))

    def _levels_for(self, n_codebooks: int | None) -> int:
        used = n_codebooks or self.n_codebooks
        return sum(places[0] < used for places in self.columns)

    def _kept_levels(self, frames: Frames, levels: int) -> Tensor | None:
        """Return the levels (N, levels) that frames keep, as wholes."""
        if frames.kept is None:
            return None
        first = [self.columns[level][0] for level in range(levels)]
        return torch.stack([frames.kept[:, column] for column in first], 1)

    def _input_of(
        self, frames: Frames, level: int, residual: Tensor, scale: Tensor | None
    ) -> Frames:
        x = residual if scale is None else residual / scale
        # Without `kept`: the next level needs the whole value of this one.
        inner = self._frames_of(frames._replace(kept=None), level, x)
        assert inner is not None
        return inner

    def _inward(self, x: Tensor) -> Tensor:
        x = project(self.project_in, x)
        return x if self.limits is None else (x / self.limits).tanh() * self.limits

    def _scale(self, level: int) -> Tensor | None:
        if self.log_scales is not None:
            return self.log_scales[level].to(table_dtype(self.log_scales)).exp()
        # That of the first level is 1.
        return None if self.scales is None or level == 0 else self.scales[level]


def _number_of_levels(n_codebooks: int, part: Quantizer) -> int:
    number, per = positive_int("n_codebooks", n_codebooks), part.n_codebooks
    if number % per:
        near = sorted({max(per, number // per * per), (number // per + 1) * per})
        raise ConfigError(
            f"n_codebooks must be a multiple of the {per} codebooks of a level, as "
            f"{' or '.join(map(str, near))}; got {number}"
        )
    return number // per


def _divided_gradient(x: Tensor, number: int | Tensor) -> Tensor:
    """Return ``x`` with its gradient divided by ``number``."""
    if torch.jit.is_tracing() or not (torch.is_grad_enabled() and x.requires_grad):
        return x
    fixed = x.detach()
    return fixed + (x - fixed) / number


def _times(value: Tensor, scale: Tensor | None) -> Tensor:
    return value if scale is None else value * scale


def _added(values: list[Tensor]) -> Tensor:
    """Add in the order of levels, so that forward and decode round equally."""
    return sum(values[1:], values[0])
