"""Whether a contender computes what the reference computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sb_espnet_vq.bench.case import Results

# Below this share, differences are no longer a matter of near-ties and rounding.
_ENOUGH = 0.999


@dataclass
class Agreement:
    """How far results agree with the reference.

    Arguments
    ---------
    agrees : bool
    codes_equal : float, optional
        Share of equal codes, in the worst of the comparisons.
    rows_equal : float, optional
        Share of rows of floats whose every element is within tolerance, in the
        worst tensor.
    max_difference : float, optional
        Largest difference of a float, as a share of the largest of its tensor.
    worst : str, optional
        The tensor in which that is.
    """

    agrees: bool = True
    codes_equal: float | None = None
    rows_equal: float | None = None
    max_difference: float | None = None
    worst: str | None = None

    def __str__(self) -> str:
        said = []
        if self.codes_equal is not None:
            said.append(f"codes {100 * self.codes_equal:.4g} %")
        if self.max_difference is not None:
            said.append(f"floats {self.max_difference:.1g}")
        if self.rows_equal is not None and self.rows_equal < 1:
            said.append(f"in {100 * self.rows_equal:.4g} % of rows ({self.worst})")
        return ", ".join(said)


def compare(
    results: Results, reference: Results, tolerance: float, so_far: Agreement
) -> None:
    """Hold results to the reference and note it in ``so_far``.

    Arguments
    ---------
    results, reference : dict of str to torch.Tensor
        Results under other names than the reference's are not looked at.
    tolerance : float
        Largest difference of a float, as a share of the largest of its tensor.
    so_far : Agreement
        What earlier comparisons of the same contender found.
    """
    for name in results.keys() & reference.keys():
        got, expected = results[name].cpu(), reference[name].cpu()
        if got.shape != expected.shape:
            so_far.agrees, so_far.rows_equal, so_far.worst = False, 0.0, name
        elif not expected.is_floating_point():
            share = (got == expected).double().mean().item()
            so_far.codes_equal = min(share, _known(so_far.codes_equal, 1.0))
            so_far.agrees &= share >= _ENOUGH
        else:
            _compare_floats(name, got, expected, tolerance, so_far)


def _compare_floats(name, got, expected, tolerance, so_far: Agreement) -> None:
    difference = (got.double() - expected.double()).abs()
    difference /= expected.double().abs().max().clamp(min=1e-30)
    # A NaN is no small difference.
    difference = difference.nan_to_num(nan=torch.inf, posinf=torch.inf)
    if difference.dim() > 1:
        difference = difference.flatten(1).amax(1)
    share = (difference <= tolerance).double().mean().item()
    largest = difference.max().item()
    so_far.agrees &= share >= _ENOUGH
    so_far.rows_equal = min(share, _known(so_far.rows_equal, 1.0))
    if largest >= _known(so_far.max_difference, 0.0):
        so_far.max_difference, so_far.worst = largest, name


def _known(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
