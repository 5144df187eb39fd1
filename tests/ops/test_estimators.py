"""Gradient estimators, compared with the reference."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from op_draws import DTYPES, agree, normal, quick, seeds

from sb_espnet_vq.ops import (
    distance,
    estimators,
)
from sb_espnet_vq.testing import reference


@quick
@given(st.integers(0, 4), st.integers(1, 6), st.sampled_from(DTYPES), seeds)
def test_mean_square(n, dim, dtype, seed):
    agree(
        distance.mean_square,
        reference.mean_square,
        normal(n, dim, seed=seed, dtype=dtype),
    )


def test_attach_gradient():
    x, slope = normal(4, 3, seed=0), normal(4, 3, seed=1).detach()
    value = normal(1, seed=2)[0]
    given = estimators.attach_gradient(x, value, slope, torch.tensor(0.5)) * 3
    of_x, of_value = torch.autograd.grad(given, (x, value))
    assert given.item() == value.item() * 3 and of_value.item() == 3
    assert torch.equal(of_x, slope * 3)


@quick
@given(st.integers(1, 4), st.sampled_from(DTYPES), seeds)
def test_attach_loss(n, dtype, seed):
    x = normal(n, 3, seed=seed, dtype=dtype)
    weight = normal(n, 3, seed=seed + 1, dtype=dtype).detach()
    given = estimators.attach_loss(x * 2, x.square().sum())
    assert torch.equal(given, x * 2)
    (of_x,) = torch.autograd.grad((given * weight).sum(), x)
    total = (x * 2 * weight).sum() + x.square().sum()
    torch.testing.assert_close(of_x, torch.autograd.grad(total, x)[0])


def test_attach_loss_without_a_graph_returns_the_value():
    value, loss = torch.randn(3), torch.ones((), requires_grad=True)
    assert estimators.attach_loss(value, loss.detach()) is value
    with torch.no_grad():
        assert estimators.attach_loss(value, loss) is value


@quick
@given(st.integers(0, 4), st.sampled_from(DTYPES), seeds)
def test_straight_through(n, dtype, seed):
    x = normal(n, 3, seed=seed, dtype=dtype)
    value = normal(n, 3, seed=seed + 1, dtype=dtype)
    agree(estimators.straight_through, reference.straight_through, x, value)


def test_straight_through_does_not_round():
    x = torch.full((1000,), 1e7, requires_grad=True)
    value = torch.randn(1000)
    assert torch.equal(estimators.straight_through(x, value), value)
    with torch.no_grad():
        assert torch.equal(estimators.straight_through(x, value), value)


@quick
@given(
    st.integers(0, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), seeds
)
def test_sample_entries(n, groups, size, dim, seed):
    probs = normal(n, groups, size, seed=seed).detach().softmax(-1).requires_grad_()
    tables = normal(groups, size, dim, seed=seed + 1)
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, size, (n, groups), generator=generator)
    agree(estimators.sample_entries, reference.sample_entries, probs, tables, codes)
    agree(estimators.gather_entries, reference.gather_entries, tables, codes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gumbel_noise(dtype):
    noise = estimators.gumbel_noise(torch.empty(200_000, dtype=dtype))
    assert noise.dtype == dtype and bool(noise.isfinite().all())
    # Mean: Euler's constant. Variance: pi^2 / 6.
    assert abs(noise.mean().item() - 0.5772) < 0.01
    assert abs(noise.var().item() - 1.6449) < 0.03
