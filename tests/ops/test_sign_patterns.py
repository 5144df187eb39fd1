"""Probabilities of sign patterns, compared with the reference."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from op_draws import agree, normal, quick, seeds

from sb_espnet_vq.ops import (
    nearest,
    sign_patterns,
)
from sb_espnet_vq.testing import reference


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


def test_summed_pattern_probs_of_extreme_logits():
    logits = torch.tensor([[-1e4, -30.0, 30.0, 1e4]], requires_grad=True)
    weight = torch.arange(16.0)
    summed = sign_patterns.summed_pattern_probs(logits, torch.ones(1))
    (grad,) = torch.autograd.grad(summed @ weight, logits)
    exact = logits.detach().double().requires_grad_()
    again = sign_patterns.summed_pattern_probs(exact, torch.ones(1).double())
    (expected,) = torch.autograd.grad(again @ weight.double(), exact)
    torch.testing.assert_close(grad.double(), expected, rtol=1e-5, atol=0)
    assert bool((grad[0, 1:3] > 0).all())


def test_pattern_probs_are_no_denormal_floats():
    # Arithmetic with them takes up to 100 times as long.
    logits = 30 * torch.randn(200, 14)
    positive, negative = sign_patterns.sign_probs(logits.t())
    probs = sign_patterns.sign_pattern_probs(positive, negative)
    assert probs[probs > 0].min() ** 2 > torch.finfo(torch.float32).tiny
    torch.testing.assert_close(probs.sum(0), torch.ones(200))
