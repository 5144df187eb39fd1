"""Ops with gradients: values and gradients against the slow forms."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from sb_espnet_vq.ops import (
    distance,
    entropy,
    estimators,
    nearest,
    reference,
    scores,
    sign_patterns,
)

DTYPES = [torch.float32, torch.float64]
quick = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)


def normal(*shape, seed, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=dtype) * scale
    return x.requires_grad_()


def agree(fast, slow, *inputs):
    """Hold values, and the gradients of a random projection of them, together."""
    got, expected = fast(*inputs), slow(*inputs)
    torch.testing.assert_close(got, expected)
    weight = torch.randn(got.shape, generator=torch.Generator().manual_seed(5))
    wanted = [x for x in inputs if x.requires_grad]
    for mine, theirs in zip(
        *(_grads(y, weight, wanted) for y in (got, expected)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def _grads(y, weight, wanted):
    # Without frames or dims there may be no graph; the gradient is zero then.
    total = (y * weight.to(y.dtype)).sum() + sum(x.sum() for x in wanted) * 0
    return torch.autograd.grad(total, wanted)


@quick
@given(st.integers(0, 4), st.integers(1, 6), st.sampled_from(DTYPES), seeds)
def test_entropy(n, size, dtype, seed):
    probs = normal(n, size, seed=seed, dtype=dtype).detach().softmax(-1)
    agree(entropy.entropy, reference.entropy, probs.requires_grad_())


def test_entropy_at_zero_probability_is_finite():
    probs = torch.tensor([0.0, 1.0], requires_grad=True)
    value = entropy.entropy(probs)
    value.backward()
    assert value.abs() < 1e-8 and bool(probs.grad.isfinite().all())


@quick
@given(st.integers(0, 4), st.integers(1, 6), seeds)
def test_sign_entropy(n, dim, seed):
    logits = normal(n, dim, seed=seed, scale=3)
    agree(entropy.sign_entropy, reference.sign_entropy, logits)


def test_sign_entropy_far_out():
    logits = torch.tensor([[-1e4, -200.0, 200.0, 1e4]], requires_grad=True)
    value = entropy.sign_entropy(logits)
    value.backward()
    assert value.item() == 0 and logits.grad.tolist() == [[0.0] * 4]
    assert torch.autograd.gradcheck(
        entropy.sign_entropy, normal(2, 3, seed=1, scale=20)
    )


@quick
@given(st.integers(0, 4), st.integers(0, 5), seeds)
def test_sign_pattern_probs(n, dim, seed):
    positive = normal(dim, n, seed=seed).detach().sigmoid().requires_grad_()
    agree(
        sign_patterns.sign_pattern_probs,
        reference.sign_pattern_probs,
        positive,
        (1 - positive).detach().requires_grad_(),
    )


@pytest.mark.parametrize("tile", [1, 7, 2**20])
def test_summed_pattern_probs(tile, monkeypatch):
    monkeypatch.setitem(nearest._TILE_SCORES, "cpu", tile)
    for n in (0, 1, 2, 9):
        for dim in (1, 2, 5, 8):
            logits = normal(n, dim, seed=n)
            weight = normal(n, seed=dim).detach()
            agree(
                sign_patterns.summed_pattern_probs,
                reference.summed_pattern_probs,
                logits,
                weight,
            )


def test_summed_pattern_probs_far_out():
    logits = torch.tensor([[-1e4, -30.0, 30.0, 1e4]], requires_grad=True)
    weight = torch.arange(16.0)
    summed = sign_patterns.summed_pattern_probs(logits, torch.ones(1))
    (grad,) = torch.autograd.grad(summed @ weight, logits)
    exact = logits.detach().double().requires_grad_()
    again = sign_patterns.summed_pattern_probs(exact, torch.ones(1).double())
    (expected,) = torch.autograd.grad(again @ weight.double(), exact)
    torch.testing.assert_close(grad.double(), expected, rtol=1e-5, atol=0)
    assert bool((grad[0, 1:3] > 0).all())


@quick
@given(st.integers(0, 9), st.integers(1, 9), st.booleans(), seeds)
def test_scores(n, size, biased, seed):
    for dtype in DTYPES:
        x, table = normal(n, 5, seed=seed), normal(size, 5, seed=seed + 1)
        inputs = [x, table, normal(size, seed=seed + 2)][: 2 + biased]
        inputs = [each.detach().to(dtype).requires_grad_() for each in inputs]
        agree(scores.scores, reference.scores, *inputs)


def test_scores_take_views_and_fixed_tables():
    x, table = normal(6, 8, seed=0, dtype=torch.float32), torch.randn(8, 10).t()
    agree(lambda x: scores.scores(x[::2], table), lambda x: x[::2] @ table.t(), x)
    learnt = table.clone().requires_grad_()
    agree(
        lambda t: scores.scores(x.detach(), t),
        lambda t: reference.scores(x.detach(), t),
        learnt,
    )


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


def test_attach_loss_without_a_graph_is_the_value_itself():
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
