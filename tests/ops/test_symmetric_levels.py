"""Symmetric levels, compared with the reference."""

import hypothesis.strategies as st
import torch
from hypothesis import given
from op_draws import agree, normal, quick, seeds

from sb_espnet_vq.ops.symmetric_levels import symmetric_levels, symmetric_values
from sb_espnet_vq.testing import reference

# Some are computed several frames in a row.
frames = st.sampled_from([0, 1, 3, 4, 64, 96])
numbers = st.lists(st.integers(2, 17), min_size=1, max_size=6)


@quick
@given(numbers, frames, seeds)
def test_levels_and_their_gradient(n_levels, n, seed):
    x = normal(n, len(n_levels), seed=seed)

    def of(function):
        return lambda x: function(x, torch.tensor(n_levels), torch.float64)

    agree(of(symmetric_levels), of(reference.symmetric_levels), x)


@quick
@given(numbers, frames, seeds)
def test_values_are_the_nearest_of_an_even_grid(n_levels, n, seed):
    x = normal(n, len(n_levels), seed=seed).detach()
    counts = torch.tensor(n_levels)
    values = symmetric_values(symmetric_levels(x, counts, x.dtype), counts)
    for column, channel, number in zip(values.t(), x.t(), n_levels, strict=True):
        grid = torch.linspace(-1, 1, number, dtype=x.dtype)
        away = (channel.clamp(-1, 1)[:, None] - grid).abs()
        torch.testing.assert_close((column - channel.clamp(-1, 1)).abs(), away.amin(1))
