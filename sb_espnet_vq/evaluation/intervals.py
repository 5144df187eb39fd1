"""Means over utterances and their bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

_RESAMPLES, _AT_ONCE = 1000, 50
# Of the resamples that are outside the interval, half on each side.
_OUTSIDE = 0.05


class Summary(NamedTuple):
    """Metrics over utterances.

    Arguments
    ---------
    means : dict[str, float or None]
        None if a metric is defined for no utterance.
    intervals : dict[str, list of float or None]
        Low and high end of the 95 % interval of each mean.
    counts : dict[str, int]
        Number of utterances for which each metric is defined.
    """

    means: dict[str, float | None]
    intervals: dict[str, list[float] | None]
    counts: dict[str, int]


def summarize(rows: Sequence[Mapping[str, float | None]]) -> Summary:
    """Average metrics over the utterances for which they are defined.

    Arguments
    ---------
    rows : sequence of mappings
        Metrics of each utterance, at least one; None for an undefined metric.

    Returns
    -------
    Summary

    Example
    -------
    >>> rows = [{"stoi": None, "pesq": 1.0}, {"stoi": 0.5, "pesq": 3.0}]
    >>> summarize(rows).means
    {'stoi': 0.5, 'pesq': 2.0}
    >>> summarize(rows).counts
    {'stoi': 1, 'pesq': 2}
    """
    means: dict[str, float | None] = {}
    intervals: dict[str, list[float] | None] = {}
    counts: dict[str, int] = {}
    for name in rows[0]:
        known = [value for row in rows if (value := row[name]) is not None]
        counts[name] = len(known)
        means[name] = sum(known) / len(known) if known else None
        intervals[name] = bootstrap(known) if known else None
    return Summary(means, intervals, counts)


def bootstrap(
    values: Sequence[float], weights: Sequence[float] | None = None, seed: int = 0
) -> list[float]:
    """Return the 95 % bootstrap interval of a mean, or of a ratio of sums.

    Percentile method (Efron and Tibshirani 1993, An Introduction to the Bootstrap) with
    1000 resamples of the utterances.

    Arguments
    ---------
    values : sequence of float
        One for each utterance, at least one.
    weights : sequence of float, optional
        The statistic is the sum of the values divided by the sum of these, such as
        errors by words. Default: the number of utterances.
    seed : int
        Of the resamples.

    Returns
    -------
    list of float
        The low and the high end.

    Example
    -------
    >>> bootstrap([2.0, 2.0, 2.0])
    [2.0, 2.0]
    """
    numbers = torch.tensor(values, dtype=torch.float64)
    counts = torch.ones_like(numbers)
    if weights is not None:
        counts = torch.tensor(weights, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    ratios = []
    # In parts, so that many utterances take little memory.
    for _ in range(_RESAMPLES // _AT_ONCE):
        shape = (_AT_ONCE, len(numbers))
        drawn = torch.randint(len(numbers), shape, generator=generator)
        totals = counts[drawn].sum(1)
        # A resample without weight has no ratio.
        totals[totals == 0] = float("nan")
        ratios.append(numbers[drawn].sum(1) / totals)
    ends = torch.tensor([_OUTSIDE / 2, 1 - _OUTSIDE / 2], dtype=torch.float64)
    return torch.cat(ratios).nanquantile(ends).tolist()
