"""Moving averages, compared with the reference."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from op_draws import DTYPES, drawn, quick, seeds

from sb_espnet_vq.ops import ema
from sb_espnet_vq.testing import reference


@quick
@given(st.integers(0, 12), st.integers(1, 5), st.sampled_from(DTYPES), seeds)
def test_code_sums(n, size, dtype, seed):
    x = torch.randn(n, 3, generator=drawn(seed), dtype=dtype)
    codes = torch.randint(0, size, (n,), generator=drawn(seed))
    valid = torch.rand(n, generator=drawn(seed)) < 0.7
    got = ema.code_sums(x, codes, valid, size)
    torch.testing.assert_close(got, reference.code_sums(x, codes, valid, size))


@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_ema_update(decay, update):
    # Without an update, the new value is zero.
    average, new = torch.randn(4, 3), torch.randn(4, 3) * update
    expected = reference.ema_update(average, new, decay, update)
    ema.ema_update_(average, new, decay, torch.tensor(update))
    torch.testing.assert_close(average, expected)


@quick
@given(st.integers(1, 6), st.sampled_from(DTYPES), seeds)
def test_smoothed_means(size, dtype, seed):
    generator = drawn(seed)
    vectors = torch.randn(size, 3, generator=generator, dtype=dtype)
    counts = torch.randint(0, 4, (size,), generator=generator).to(dtype)
    sums = torch.randn(size, 3, generator=generator, dtype=dtype) * counts[:, None]
    expected = reference.smoothed_means(sums, counts, vectors)
    means = ema.smoothed_means(sums, counts, vectors)
    torch.testing.assert_close(means, expected)
    torch.testing.assert_close(means[counts == 0], vectors[counts == 0])


@pytest.mark.parametrize("count", [2e-3, 1e-5, 1e-20, 1e-38, 0.0])
def test_a_decayed_code_keeps_its_vector(count):
    # Its sum and its count decay together; their quotient is the vector.
    vectors, counts = torch.randn(2, 3), torch.tensor([100.0, count])
    means = ema.smoothed_means(vectors * counts[:, None], counts, vectors)
    torch.testing.assert_close(means, vectors)
