"""Finite levels, compared with the reference."""

import math

import hypothesis.strategies as st
import torch
from hypothesis import given
from op_draws import agree, normal, quick, seeds

from sb_espnet_vq.ops.finite_levels import (
    finite_levels,
    level_codes,
    level_values,
    levels_of_codes,
)
from sb_espnet_vq.testing import reference

# Some are computed several frames in a row.
frames = st.sampled_from([0, 1, 3, 4, 64, 96])
numbers = st.lists(st.integers(3, 17), min_size=1, max_size=6)


@quick
@given(numbers, frames, seeds)
def test_levels_and_their_gradient(n_levels, n, seed):
    x = normal(n, len(n_levels), seed=seed, scale=2.0)

    def of(function):
        return lambda x: function(x, torch.tensor(n_levels), torch.float64)

    agree(of(finite_levels), of(reference.finite_levels), x)


@quick
@given(numbers, frames, seeds)
def test_codes_and_back(n_levels, n, seed):
    x = normal(n, len(n_levels), seed=seed, scale=2.0).detach()
    counts = torch.tensor(n_levels)
    levels = finite_levels(x, counts, torch.float32)
    codes = level_codes(levels, counts, math.prod(n_levels))
    assert torch.equal(codes, reference.level_codes(levels, n_levels))
    assert torch.equal(levels_of_codes(codes, n_levels).float(), levels)
    values = level_values(levels, counts)
    assert bool((values.abs() <= 1).all())
