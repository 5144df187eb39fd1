"""`gumbel`: product quantization with codes sampled by Gumbel-softmax."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.devices import tracing
from sb_espnet_vq.ops.estimators import gather_entries
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.ops.gumbel import Drawn, draw_entries
from sb_espnet_vq.ops.nearest import tile_rows
from sb_espnet_vq.quantizers.base import Quantized, Quantizer
from sb_espnet_vq.quantizers.held import without_held
from sb_espnet_vq.quantizers.options import in_range, true_or_false
from sb_espnet_vq.quantizers.precision import project, table_dtype


class GumbelGroups(Quantizer):
    """Gumbel-softmax over groups of codebook vectors; the caller sets the temperature.

    Baevski et al. 2020, "wav2vec 2.0", https://arxiv.org/abs/2006.11477, equation
    1: a linear layer computes logits over the codebook vectors of each group. Training
    samples a vector with Gumbel noise (Jang et al. 2017,
    https://arxiv.org/abs/1611.01144); eval mode takes the most likely one. The value is
    the concatenation of the vectors of all groups. There is no loss term.

    The codes are the most likely ones, also in training, and `forward_with_usage`
    returns the mean probabilities: the diversity loss of wav2vec 2.0 needs both.

    Arguments
    ---------
    dim : int
        Width of the input frames.
    codebook_size : int
        Codebook vectors in each group.
    n_codebooks : int
        Number of groups.
    out_dim : int
        Width of the value. If ``n_codebooks`` does not divide it, a learned projection
        is applied to the concatenated vectors.
    temperature : tuple of float
        (start, stop, decay) of the caller's schedule; ``start`` applies until
        `set_temperature` is called.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Example
    -------
    >>> import torch
    >>> q = GumbelGroups(8, 16, 2, 6, (2.0, 0.5, 0.999))
    >>> out, usage = q.forward_with_usage(torch.randn(2, 100, 8))
    >>> out.quantized.shape, out.codes.shape, usage.shape
    (torch.Size([2, 100, 6]), torch.Size([2, 100, 2]), torch.Size([2, 16]))
    """

    draws_codes = True
    gives_probabilities = True

    held: Tensor | None
    project_out: nn.Module

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        n_codebooks: int,
        out_dim: int,
        temperature: tuple[float, float, float],
    ):
        super().__init__(dim, codebook_size, n_codebooks)
        self.max_temp, self.min_temp, self.temp_decay = _schedule(temperature)
        self._temperature = self.max_temp
        n_entries = self.n_codebooks * self.codebook_size
        width = -(-out_dim // self.n_codebooks)
        # In SpeechBrain's order, so that a seed gives the same weights.
        self.register_buffer("held", None, persistent=False)
        self.vars = nn.Parameter(torch.empty(1, n_entries, width))
        nn.init.uniform_(self.vars)
        self.weight_proj = nn.Linear(self.dim, n_entries)
        nn.init.normal_(self.weight_proj.weight)
        nn.init.zeros_(self.weight_proj.bias)
        # No bias, so that a missing code contributes nothing.
        self.project_out = (
            nn.Identity()
            if width * self.n_codebooks == out_dim
            else nn.Linear(width * self.n_codebooks, out_dim, bias=False)
        )

    @property
    def sampling_temperature(self) -> Tensor | float:
        """Temperature of the next training forward."""
        return self.temperature()

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the next training forwards."""
        self._temperature = temperature

    def temperature(self) -> Tensor | float:
        """Return the temperature of the next training forward."""
        return self._temperature

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (N, n_codebooks, codebook_size) of frames (N, dim)."""
        logits = project(self.weight_proj, x)
        return logits.view(x.shape[0], self.n_codebooks, self.codebook_size)

    def draw(
        self,
        x: Tensor,
        n_codebooks: int | None = None,
        frame_weight: Tensor | None = None,
    ) -> Drawn:
        """Sample codebook vectors of the first groups, as in training.

        Arguments
        ---------
        x : torch.Tensor
            (N, dim).
        n_codebooks : int, optional
            Number of groups to use. Default: all.
        frame_weight : torch.Tensor, optional
            (N,) weight of each frame, as in `draw_entries`.

        Returns
        -------
        Drawn
        """
        tables = self._tables()
        layer = self.weight_proj
        linear = layer.weight.to(x.dtype), layer.bias.to(x.dtype)
        if n_codebooks is not None and n_codebooks < self.n_codebooks:
            rows = n_codebooks * self.codebook_size
            tables, linear = tables[:n_codebooks], (linear[0][:rows], linear[1][:rows])
        return draw_entries(x, linear, tables, self.temperature(), frame_weight)

    def _hold(self, entries: Tensor | None) -> None:
        self.held = entries

    def _quantize(self, frames: Frames) -> Quantized:
        if self.training:
            drawn = self.draw(frames.x, frames.n_codebooks, frames.weight)
            codes, probs = cast(Tensor, drawn.likeliest), cast(Tensor, drawn.probs)
            value = self._outward(drawn.entries)
            return Quantized(value, codes, {}, usage=frames.mean_of_sum(probs))
        logits = self.logits(frames.x)[:, : frames.n_codebooks]
        codes = logits.argmax(-1)
        probs = frames.weight @ logits.softmax(-1).flatten(1)
        usage = frames.mean_of_sum(probs.view(logits.shape[1:]))
        return Quantized(self._decode(codes), codes, {}, usage=usage)

    def _search(self, frames: Frames) -> Tensor:
        x, used = frames.x.detach(), frames.n_codebooks
        if tracing():
            return self.logits(x)[:, :used].argmax(-1)
        rows = tile_rows(x, self.n_codebooks * self.codebook_size)
        parts = [self.logits(tile)[:, :used].argmax(-1) for tile in x.split(rows)]
        return torch.cat(parts)

    def _decode(self, codes: Tensor) -> Tensor:
        tables = self._tables()[: codes.shape[1]]
        entries = gather_entries(tables, codes.clamp(min=0))
        return self._outward(torch.where(codes[..., None] >= 0, entries, 0))

    def _tables(self) -> Tensor:
        tables = self.vars.view(self.n_codebooks, self.codebook_size, -1)
        return without_held(tables, self.held).to(table_dtype(tables))

    def _outward(self, entries: Tensor) -> Tensor:
        missing = self.n_codebooks - entries.shape[1]
        if missing:
            entries = F.pad(entries, (0, 0, 0, missing))
        return project(self.project_out, entries.flatten(1))


class GumbelVQ(GumbelGroups):
    """Gumbel-softmax quantizer with product codebooks.

    Baevski et al. 2020, "wav2vec 2.0", https://arxiv.org/abs/2006.11477, equation 1,
    as in `GumbelGroups`. In training the codes are the sampled ones, and the
    temperature decays with the number of training forwards.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Codebook vectors in each group.
    n_codebooks : int
        Number of groups. If it does not divide ``dim``, a learned projection is applied
        to the concatenated vectors.
    temperature : tuple of float
        (start, stop, decay): training forward number s, counted from 0, has the
        temperature max(start * decay**s, stop).
    frozen : bool
        No updates in training, and a constant temperature; codes are still sampled
        and gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Buffers
    -------
    step : () int64, number of training forwards with a valid frame.

    Example
    -------
    >>> import torch
    >>> q = GumbelVQ(dim=8, codebook_size=16, n_codebooks=2)
    >>> q(torch.randn(2, 100, 8)).codes.shape
    torch.Size([2, 100, 2])
    >>> q.step
    tensor(1)
    """

    gives_probabilities = False

    step: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int = 320,
        n_codebooks: int = 2,
        temperature: tuple[float, float, float] = (2.0, 0.5, 0.999995),
        frozen: bool = False,
    ):
        super().__init__(dim, codebook_size, n_codebooks, dim, temperature)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        if true_or_false("frozen", frozen):
            self.requires_grad_(False)

    def temperature(self) -> Tensor | float:
        """Return the temperature of the next training forward, a scalar tensor."""
        # Only the step is a tensor: copying a number to a device synchronizes it.
        # The logarithm is computed in float64: the rounding error of a decay this close
        # to 1 in float32 would accumulate over a few hundred thousand steps.
        decay = (self.step.float() * math.log(self.temp_decay)).exp()
        return (self.max_temp * decay).clamp(min=self.min_temp)

    def _set_step(self, step: int) -> None:
        self.step.fill_(step)

    def _quantize(self, frames: Frames) -> Quantized:
        if not self.training:
            codes = self._search(frames)
            return Quantized(self._decode(codes), codes, {})
        drawn = self.draw(frames.x, frames.n_codebooks)
        if self.learning:
            self.step.add_(frames.n_valid > 0)
        return Quantized(self._outward(drawn.entries), drawn.codes, {})


def _schedule(temperature) -> tuple[float, float, float]:
    try:
        start, stop, decay = temperature
    except (TypeError, ValueError):
        raise ConfigError(
            f"temperature must be (start, stop, decay), got {temperature!r}"
        ) from None
    for name, value in (("start", start), ("stop", stop)):
        in_range(f"temperature {name}", value, 1e-6, float("inf"))
    return start, stop, in_range("temperature decay", decay, 1e-6, 1)
