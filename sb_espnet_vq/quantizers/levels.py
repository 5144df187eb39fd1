"""A codebook between projections, and chains of them on residuals."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sb_espnet_vq.ops.distance import mean_square
from sb_espnet_vq.ops.estimators import attach_gradient, straight_through
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.codebook import Codebook
from sb_espnet_vq.quantizers.estimators import Estimator
from sb_espnet_vq.quantizers.precision import project


class ResidualLevel(nn.Module):
    """One level: an input projection, a codebook and an output projection.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook : Codebook
        If its ``dim`` equals that of the frames there are no projections.
    """

    # Named as in ESPnet's levels, so that its checkpoints load.

    def __init__(self, dim: int, codebook: Codebook):
        super().__init__()
        self.project_in, self.project_out = projections(dim, codebook.dim)
        self._codebook = codebook

    def inward(self, x: Tensor) -> Tensor:
        """Project frames (N, dim) to the codebook's width."""
        return project(self.project_in, x)

    def outward(self, entries: Tensor) -> Tensor:
        """Project codebook vectors (N, code_dim) to the width of the frames."""
        return project(self.project_out, entries)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the values (N, dim) of codes (N,), zero for -1."""
        return decode_level(self._codebook, self.project_out, codes)


def projections(dim: int, code_dim: int) -> tuple[nn.Module, nn.Module]:
    """Return layers from ``dim`` to ``code_dim`` and back; identities if equal."""
    if code_dim == dim:
        return nn.Identity(), nn.Identity()
    return nn.Linear(dim, code_dim), nn.Linear(code_dim, dim)


def decode_level(codebook: Codebook, project_out: nn.Module, codes: Tensor) -> Tensor:
    """Return the values (N, dim) of codes (N,), zero for -1."""
    out = project(project_out, codebook.decode(codes))
    if isinstance(project_out, nn.Identity):
        return out
    # The bias of the projection would otherwise give a missing code a value.
    return torch.where(codes[:, None] >= 0, out, 0)


class Looked(NamedTuple):
    """What a level returns for frames: (N, dim) vectors, (N,) codes, (V,) counts."""

    entries: Tensor
    codes: Tensor
    counts: Tensor | None


def look_up(book: Codebook, frames: Frames, z: Tensor, learn: bool) -> Looked:
    """Look up vectors of ``z`` (N, dim); update the buffers after, if ``learn``."""
    inner = frames._replace(x=z.detach())
    if learn:
        book.start_(inner)
    codes, entries = book.look_up(inner.x)
    return Looked(entries, codes, book.learn_(inner, codes) if learn else None)


class Level(NamedTuple):
    """The result of `run_level`: value (N, dim), loss terms (N,) each."""

    value: Tensor
    found: Looked
    terms: dict[str, Tensor]


def run_level(
    layers: tuple[nn.Module, Codebook, nn.Module],
    frames: Frames,
    x: Tensor,
    estimator: Estimator,
    learn: bool,
) -> Level:
    """Quantize ``x`` (N, dim) between projections.

    Arguments
    ---------
    layers : tuple
        Input projection, codebook, output projection.
    frames : Frames
        Which rows are valid.
    x : torch.Tensor
        (N, dim).
    estimator : Estimator
        How the value's gradient passes the lookup.
    learn : bool
        Whether to update the codebook's buffers.

    Returns
    -------
    Level
    """
    project_in, book, project_out = layers
    z = project(project_in, x)
    found = look_up(book, frames, z, learn)
    terms = {"commitment": mean_square(z - found.entries.detach())}
    terms |= book.losses(z, found.entries)
    return Level(
        project(project_out, estimator.at_level(z, found.entries)), found, terms
    )


class Chained(NamedTuple):
    """The result of a chain: value (N, dim), K results of levels, mean loss terms."""

    value: Tensor
    found: list[Looked]
    terms: dict[str, Tensor]


def run_chain(
    chain: list[ResidualLevel],
    frames: Frames,
    kept: Tensor | None,
    estimator: Estimator,
    learn: bool,
) -> Chained:
    """Run levels on residuals, through which gradients flow.

    Kumar et al. 2023, https://arxiv.org/abs/2306.06546, section 3.2.
    """
    residual, levels = frames.x, []
    for layer in chain:
        layers = layer.project_in, layer._codebook, layer.project_out
        levels.append(run_level(layers, frames, residual, estimator, learn))
        residual = residual - levels[-1].value
    value = added(_only_kept([level.value for level in levels], kept))
    terms = {}
    for name in levels[0].terms:
        each = _only_kept([level.terms[name] for level in levels], kept)
        terms[name] = frames.mean(added(each)) / len(chain)
    return Chained(value, [level.found for level in levels], terms)


def run_plain(
    chain: list[ResidualLevel], frames: Frames, kept: Tensor | None, learn: bool
) -> Chained:
    """Run levels without projections or learned parameters, which need no graph.

    The gradient of a level's commitment loss is proportional to its residual, so
    the gradients of all levels are accumulated in one tensor.
    """
    residual = widened(chain, frames.x)
    value = torch.zeros_like(residual, dtype=chain[0]._codebook.dtype)
    pull = torch.zeros_like(residual)
    commitment = residual.new_zeros(())
    weights = torch.zeros_like(frames.weight)
    results = []
    for level, layer in enumerate(chain):
        found = look_up(layer._codebook, frames, residual, learn)
        entries, weight = found.entries, frames.weight
        residual -= entries
        if kept is not None:
            entries = entries * kept[:, level, None]
            weight = weight * kept[:, level]
        value += entries
        weights += weight
        pull.addcmul_(residual, weight[:, None])
        commitment += (mean_square(residual) * weight).sum()
        results.append(found)
    scale = frames.share() * 2 / frames.x.shape[1]
    curve = (weights * scale)[:, None]
    commitment = commitment * frames.share()
    commitment = attach_gradient(frames.x, commitment, pull * scale, curve)
    terms = {"commitment": commitment / len(chain)}
    return Chained(straight_through(frames.x, value), results, terms)


def run_projected(
    chain: list[ResidualLevel], frames: Frames, kept: Tensor | None, learn: bool
) -> Chained:
    """Run levels with learned projections, with straight-through over the chain."""
    residual = frames.x
    values, results, distances = [], [], []
    for layer in chain:
        z = layer.inward(residual)
        found = look_up(layer._codebook, frames, z, learn)
        distances.append(mean_square(z - found.entries))
        # Detached, since the frames get their gradient from the whole chain.
        out = straight_through(layer.inward(residual.detach()), found.entries)
        out = layer.outward(out)
        residual = residual - out.detach()
        values.append(out)
        results.append(found)
    commitment = added([frames.mean(each) for each in _only_kept(distances, kept)])
    value = straight_through(frames.x, added(_only_kept(values, kept)))
    return Chained(value, results, {"commitment": commitment / len(chain)})


def search_chain(chain: list[ResidualLevel], frames: Frames) -> Tensor:
    """Return the codes (N, K) of frames without changing state."""
    residual, codes = widened(chain, frames.x), []
    for level, layer in enumerate(chain, start=1):
        z = layer.inward(residual)
        if level == len(chain):
            codes.append(layer._codebook.search(z))
        else:
            code, entries = layer._codebook.look_up(z)
            codes.append(code)
            residual -= layer.outward(entries)
    return torch.stack(codes, 1)


def added(values: list[Tensor]) -> Tensor:
    """Add in the order of levels, so that forward and decode round equally."""
    return sum(values[1:], values[0])


def widened(chain: list[ResidualLevel], x: Tensor) -> Tensor:
    """Return a copy of frames in the common dtype of frames and codebooks."""
    dtype = torch.promote_types(x.dtype, chain[0]._codebook.dtype)
    return x.detach().to(dtype, copy=True)


def _only_kept(each: list[Tensor], kept: Tensor | None) -> list[Tensor]:
    """Set rows of levels to zero that are not ``kept`` (N, K)."""
    if kept is None:
        return each
    columns = kept.unbind(1)
    return [
        x * k.view(-1, *[1] * (x.dim() - 1)) for x, k in zip(each, columns, strict=True)
    ]
