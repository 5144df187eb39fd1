"""Statistics of code usage, compared with the reference."""

import hypothesis.strategies as st
import torch
from hypothesis import given
from op_draws import drawn, quick, seeds

from sb_espnet_vq.ops import usage
from sb_espnet_vq.testing import reference


@quick
@given(st.integers(0, 12), st.integers(1, 3), st.integers(1, 5), st.booleans(), seeds)
def test_code_counts(n, k, size, each, seed):
    codes = torch.randint(0, size, (n, k), generator=drawn(seed))
    weight = torch.rand(*((n, k) if each else (n,)), generator=drawn(seed)).round()
    expected = reference.code_counts(codes, weight, size)
    assert torch.equal(usage.code_counts(codes, weight, size), expected)


@quick
@given(st.integers(0, 30), st.integers(1, 3), st.integers(1, 5), seeds)
def test_usage(n, k, size, seed):
    codes = torch.randint(0, size, (n, k), generator=drawn(seed))
    valid = torch.rand(n, generator=drawn(seed)) < 0.7
    counts = usage.code_counts(codes, valid.float(), size)
    expected = torch.tensor(reference.usage_of_counts(counts), dtype=torch.float64)
    for found in (usage.usage_of_counts(counts), usage.usage_of_codes(codes, valid)):
        torch.testing.assert_close(
            torch.stack(found).double(), expected, rtol=1e-5, atol=1e-5
        )
    if valid.any():
        by_code = torch.tensor(reference.usage_of_codes(codes, valid))
        torch.testing.assert_close(by_code.double(), expected)
