"""Gumbel-softmax sampling of codebook vectors, in tiles over frames.

Scores, noise and probabilities of all frames dominate the memory of a training step.
Above a limit only one tile is kept in memory: the backward pass recomputes the scores
and redraws the same noise from the saved state of the generator.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sb_espnet_vq.ops.devices import tracing
from sb_espnet_vq.ops.estimators import gather_entries, gumbel_noise, sample_entries
from sb_espnet_vq.ops.nearest import tile_rows, tiles
from sb_espnet_vq.ops.scores import scores

# Up to this number, scores are kept, which is faster: 16 MiB for each tensor.
_KEPT_SCORES = 2**22
# With fewer rows, accumulating the gradient of the weights would dominate the time.
_FEWEST_ROWS = 64


class Drawn(NamedTuple):
    """Result of `draw_entries`.

    Arguments
    ---------
    entries : torch.Tensor
        (N, K, D) sampled codebook vectors.
    codes : torch.Tensor
        (N, K) int64, codes of the sampled vectors.
    likeliest : torch.Tensor, optional
        (N, K) int64, the most probable codes (argmax without noise).
    probs : torch.Tensor, optional
        (K, V) probabilities of the codes without noise, a weighted sum over frames.
    """

    entries: Tensor
    codes: Tensor
    likeliest: Tensor | None = None
    probs: Tensor | None = None


def draw_entries(
    x: Tensor,
    linear: tuple[Tensor, Tensor],
    tables: Tensor,
    temperature: Tensor | float,
    frame_weight: Tensor | None = None,
) -> Drawn:
    """Sample a vector of each codebook; a linear layer computes the logits of a frame.

    The gradient to the logits is that of the expected vector (Jang et al. 2017,
    straight-through Gumbel-softmax, section 2.2); the codebooks get the gradient of the
    sampled vectors only. Noise is drawn in the order of the frames.

    Arguments
    ---------
    x : torch.Tensor
        (N, D') float.
    linear : tuple of torch.Tensor
        Weight (K * V, D') and bias (K * V,) in the dtype of ``x``.
    tables : torch.Tensor
        (K, V, D) codebooks.
    temperature : torch.Tensor or float
        Positive scalar without gradient.
    frame_weight : torch.Tensor, optional
        (N,) weight of each frame in ``probs``; it gets no gradient.

    Returns
    -------
    Drawn
        With ``likeliest`` and ``probs`` if ``frame_weight`` is given.

    Example
    -------
    >>> sure = torch.tensor([[50.0], [-50.0]]), torch.zeros(2)
    >>> tables = torch.tensor([[[7.0], [8.0]]])
    >>> drawn = draw_entries(torch.tensor([[9.0]]), sure, tables, 1.0, torch.ones(1))
    >>> drawn.entries, drawn.probs
    (tensor([[[7.]]]), tensor([[1., 0.]]))
    """
    if _keeps(x, linear[0]):
        return _drawn_at_once(x, linear, tables, temperature, frame_weight)
    drawn = _DrawEntries.apply(
        x, *linear, tables, temperature, frame_weight, _generator_state(x.device)
    )
    return Drawn(*drawn[: 2 if frame_weight is None else 4])


def _keeps(x: Tensor, weight: Tensor) -> bool:
    if tracing() or x.device.type not in ("cpu", "cuda"):
        return True
    kept = max(_KEPT_SCORES // len(weight), tile_rows(x, len(weight)))
    return len(x) <= kept


def _drawn_at_once(x, linear, tables, temperature, frame_weight) -> Drawn:
    weight, bias = linear
    logits = _logits(x, weight, bias, tables)
    noisy = gumbel_noise(logits).add_(logits)
    probs = (noisy / temperature).softmax(-1).to(tables.dtype)
    codes = noisy.detach().argmax(-1)
    entries = sample_entries(probs, tables, codes)
    if frame_weight is None:
        return Drawn(entries, codes)
    mean = frame_weight @ logits.softmax(-1).flatten(1)
    return Drawn(
        entries, codes, logits.detach().argmax(-1), mean.view(tables.shape[:2])
    )


def _logits(x: Tensor, weight: Tensor, bias: Tensor, tables: Tensor) -> Tensor:
    return scores(x, weight, bias).view(-1, *tables.shape[:2])


class _DrawEntries(torch.autograd.Function):
    @staticmethod
    def forward(x, weight, bias, tables, temperature, frame_weight, state):
        lead = len(x), len(tables)
        codes = x.new_empty(lead, dtype=torch.int64)
        likeliest = torch.zeros_like(codes)
        total = x.new_zeros(len(weight))
        for tile in _tiles(x, weight):
            logits = _logits(x[tile], weight, bias, tables)
            codes[tile] = gumbel_noise(logits).add_(logits).argmax(-1)
            if frame_weight is not None:
                likeliest[tile] = logits.argmax(-1)
                total += frame_weight[tile] @ logits.softmax(-1).flatten(1)
        entries = gather_entries(tables, codes)
        return entries, codes, likeliest, total.view(tables.shape[:2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, weight, bias, tables, ctx.temperature, frame_weight, ctx.state = inputs
        _, codes, likeliest, _ = output
        ctx.save_for_backward(x, weight, bias, tables, frame_weight, codes)
        ctx.mark_non_differentiable(codes, likeliest)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor):
        x, weight, bias, tables, frame_weight, codes = ctx.saved_tensors
        of_entries, _, _, of_probs = grads
        generator = torch.Generator(x.device)
        generator.set_state(ctx.state)
        grad_x = torch.empty_like(x)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for tile in _tiles(x, weight):
            logits = _logits(x[tile], weight, bias, tables)
            noisy = gumbel_noise(logits, generator).add_(logits) / ctx.temperature
            slope = torch.einsum("nkd,kvd->nkv", of_entries[tile], tables)
            moved = _through_softmax(noisy, slope.to(noisy.dtype)) / ctx.temperature
            if frame_weight is not None:
                clean = _through_softmax(logits, of_probs)
                moved = moved + clean * frame_weight[tile, None, None]
            moved = moved.flatten(1)
            grad_x[tile] = scores(moved, weight.t())
            grad_weight += scores(moved.t(), x[tile].t())
            grad_bias += moved.sum(0)
        rows = codes + torch.arange(len(tables), device=x.device) * tables.shape[1]
        grad_tables = torch.zeros_like(tables).flatten(0, 1)
        grad_tables.index_add_(0, rows.flatten(), of_entries.flatten(0, 1))
        grad_tables = grad_tables.view_as(tables)
        return grad_x, grad_weight, grad_bias, grad_tables, None, None, None


def _through_softmax(logits: Tensor, slope: Tensor) -> Tensor:
    """Return the gradient to logits, given the gradient to their softmax."""
    probs = logits.softmax(-1)
    return probs * (slope - (probs * slope).sum(-1, keepdim=True))


def _tiles(x: Tensor, weight: Tensor) -> list[slice]:
    return tiles(x, len(weight), _FEWEST_ROWS)


def _generator_state(device: torch.device) -> Tensor:
    # The state of a GPU's generator is on the host, so this does not synchronize.
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.cuda.get_rng_state(device)
