"""Alternating refit of codebooks and codes of a trained quantizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sb_espnet_vq.ops.least_squares import Assigned, refit_tables, squared_error
from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.quantizers.chain import beam_options
from sb_espnet_vq.quantizers.options import positive_int

# Codes change after each round, so that an exact solution would not last.
_ENOUGH = 1e-2


@torch.no_grad()
def refit(
    quantizer: Quantizer,
    chunks: Sequence[Tensor],
    rounds: int = 5,
    beam: int = 1,
    uses: Sequence[int] = (),
) -> list[float]:
    """Refit codebooks by least squares, alternating with encoding.

    Each round encodes the frames, then replaces all codebook vectors by those with the
    least squared error for these codes (`ops.least_squares.refit_tables`). A new
    encoding may be worse, since the greedy search is not optimal; the best codebooks
    of all rounds are kept, at worst the present ones.

    Arguments
    ---------
    quantizer : Quantizer
        With codebooks that add up and can be replaced.
    chunks : sequence of torch.Tensor
        Frames (N, dim), all finite.
    rounds : int
        At most so many; fewer if a round does not decrease the error.
    beam : int
        Of the search for codes.
    uses : sequence of int
        Numbers of codebooks with which the quantizer is used, which count equally.
        Default: all codebooks only.

    Returns
    -------
    list of float
        Error of the codebooks before each round and after the last, mean over
        ``uses`` of the squared error relative to that before the first.

    Raises
    ------
    ConfigError
        If the codebooks do not add up or cannot be replaced, or an option is out of
        range. Nothing has changed then.

    Example
    -------
    >>> from sb_espnet_vq import build
    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <...>
    >>> q, x = build("rvq", dim=4, codebook_size=8, n_codebooks=3), torch.randn(500, 4)
    >>> _, q = q(x), q.eval()
    >>> errors = refit(q, [x], beam=4)
    >>> errors[0], errors[-1] < 0.9
    (1.0, True)
    """
    check_refit(quantizer, beam)
    options = beam_options(quantizer, beam)
    uses = sorted(set(uses)) or [quantizer.n_codebooks]
    vectors = quantizer.codebook_vectors()
    best, first, errors = vectors, None, []
    for number in range(positive_int("rounds", rounds) + 1):
        assigned = [
            [Assigned(x, quantizer.encode(x, n_codebooks=n, **options)) for x in chunks]
            for n in uses
        ]
        tables = _tables(vectors, quantizer.codebook_sizes)
        spent = torch.tensor([squared_error(each, tables) for each in assigned])
        first = spent.clamp(min=torch.finfo().tiny) if first is None else first
        errors.append(float((spent / first).mean()))
        if errors[-1] > min(errors):
            break
        best = vectors
        if number == rounds:
            break
        # Few codebooks have larger errors, and would outweigh many.
        weights = (1 / first) / (1 / first).mean()
        weighted = [
            chunk._replace(weight=float(weight))
            for weight, use in zip(weights, assigned, strict=True)
            for chunk in use
        ]
        vectors = _vectors(refit_tables(weighted, tables, tolerance=_ENOUGH), vectors)
        quantizer.set_codebook_vectors(vectors)
    quantizer.set_codebook_vectors(best)
    return errors


def check_refit(quantizer: Quantizer, beam: int = 1) -> None:
    """Raise `ConfigError` if the quantizer cannot be refitted for a search.

    Arguments
    ---------
    quantizer, beam
        As in `refit`.

    Raises
    ------
    ConfigError
        If its codebooks do not add up or cannot be replaced, or it does not take the
        beam.
    """
    beam_options(quantizer, beam)
    # Replaced by themselves, which is refused if they cannot be replaced.
    quantizer.set_codebook_vectors(quantizer.codebook_vectors())


def _tables(vectors: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    return [vectors[level, :size] for level, size in enumerate(sizes)]


def _vectors(tables: Sequence[Tensor], like: Tensor) -> Tensor:
    vectors = torch.zeros_like(like)
    for level, table in enumerate(tables):
        vectors[level, : len(table)] = table
    return vectors
