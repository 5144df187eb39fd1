"""Comparison of a contender's results with the reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sb_espnet_vq.bench.case import Results

# Required fraction of equal codes or rows: near-ties and rounding affect fewer than one
# in a thousand.
_MIN_EQUAL = 0.999


@dataclass
class Agreement:
    """Agreement of the results of a contender with the reference.

    Arguments
    ---------
    agrees : bool
        Whether all results agree within tolerance.
    codes_equal : float, optional
        Fraction of equal codes, in the worst of the comparisons.
    rows_equal : float, optional
        Fraction of rows of floats with all elements within tolerance, in the worst
        tensor.
    max_difference : float, optional
        Largest difference of a float, relative to the largest value of its tensor.
    worst : str, optional
        Name of the tensor with this difference.
    """

    agrees: bool = True
    codes_equal: float | None = None
    rows_equal: float | None = None
    max_difference: float | None = None
    worst: str | None = None

    def __str__(self) -> str:
        parts = []
        if self.codes_equal is not None:
            parts.append(f"codes {100 * self.codes_equal:.4g} %")
        if self.max_difference is not None:
            parts.append(f"floats {self.max_difference:.1g}")
        if self.rows_equal is not None and self.rows_equal < 1:
            parts.append(f"in {100 * self.rows_equal:.4g} % of rows ({self.worst})")
        return ", ".join(parts)


def compare(
    results: Results, reference: Results, tolerance: float, so_far: Agreement
) -> None:
    """Compare results with the reference and update ``so_far``.

    Arguments
    ---------
    results, reference : dict of str to torch.Tensor
        Only names in both are compared.
    tolerance : float
        Largest difference of a float, relative to the largest value of its tensor.
    so_far : Agreement
        Result of earlier comparisons of the same contender; updated in place.
    """
    for name in results.keys() & reference.keys():
        got, expected = results[name].cpu(), reference[name].cpu()
        if got.shape != expected.shape:
            so_far.agrees, so_far.rows_equal, so_far.worst = False, 0.0, name
        elif not expected.is_floating_point():
            share = (got == expected).double().mean().item()
            so_far.codes_equal = min(share, _known(so_far.codes_equal, 1.0))
            so_far.agrees &= share >= _MIN_EQUAL
        else:
            _compare_floats(name, got, expected, tolerance, so_far)


def _compare_floats(name, got, expected, tolerance, so_far: Agreement) -> None:
    difference = (got.double() - expected.double()).abs()
    difference /= expected.double().abs().max().clamp(min=1e-30)
    # NaN must not pass as a small difference.
    difference = difference.nan_to_num(nan=torch.inf, posinf=torch.inf)
    if difference.dim() > 1:
        difference = difference.flatten(1).amax(1)
    share = (difference <= tolerance).double().mean().item()
    largest = difference.max().item()
    so_far.agrees &= share >= _MIN_EQUAL
    so_far.rows_equal = min(share, _known(so_far.rows_equal, 1.0))
    if largest >= _known(so_far.max_difference, 0.0):
        so_far.max_difference, so_far.worst = largest, name


def _known(value: float | None, default: float) -> float:
    return default if value is None else value
