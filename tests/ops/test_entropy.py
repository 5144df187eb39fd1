"""Entropies: values and gradients, compared with the reference."""

import hypothesis.strategies as st
import torch
from hypothesis import given
from op_draws import DTYPES, agree, normal, quick, seeds

from sb_espnet_vq.ops import (
    entropy,
)
from sb_espnet_vq.testing import reference


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


def test_sign_entropy_of_extreme_logits():
    logits = torch.tensor([[-1e4, -200.0, 200.0, 1e4]], requires_grad=True)
    value = entropy.sign_entropy(logits)
    value.backward()
    assert value.item() == 0 and logits.grad.tolist() == [[0.0] * 4]
    assert torch.autograd.gradcheck(
        entropy.sign_entropy, normal(2, 3, seed=1, scale=20)
    )
