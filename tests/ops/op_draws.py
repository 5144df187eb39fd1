"""Random input for the tests of operations, and comparison of values and gradients."""

import hypothesis.strategies as st
import torch
from hypothesis import settings

DTYPES = [torch.float32, torch.float64]
quick = settings(max_examples=30, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed, dtype=torch.float64, scale=1.0):
    x = torch.randn(*shape, generator=drawn(seed), dtype=dtype) * scale
    return x.requires_grad_()


def agree(fast, slow, *inputs):
    """Compare values, and gradients of a randomly weighted sum of the values."""
    got, expected = fast(*inputs), slow(*inputs)
    torch.testing.assert_close(got, expected)
    weight = torch.randn(got.shape, generator=drawn(5))
    wanted = [x for x in inputs if x.requires_grad]
    for mine, theirs in zip(
        *(_grads(y, weight, wanted) for y in (got, expected)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def _grads(y, weight, wanted):
    # Without frames or dimensions there may be no graph; the gradient is then zero.
    total = (y * weight.to(y.dtype)).sum() + sum(x.sum() for x in wanted) * 0
    return torch.autograd.grad(total, wanted)
