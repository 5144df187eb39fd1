"""What is particular to `gumbel`."""

import pytest
import torch
import torch.nn.functional as F
from random_frames import normal

from sb_espnet_vq import build
from sb_espnet_vq.ops.estimators import gumbel_noise

# --- gumbel


def test_temperature_falls_and_is_saved():
    q = build("gumbel", dim=8, codebook_size=16, temperature=(2.0, 0.5, 0.9))
    for step in range(20):
        assert float(q.temperature()) == pytest.approx(max(2 * 0.9**step, 0.5))
        q(normal(3, 8))
    other = build("gumbel", dim=8, codebook_size=16, temperature=(2.0, 0.5, 0.9))
    other.load_state_dict(q.state_dict())
    assert float(other.temperature()) == float(q.temperature()) == 0.5
    other.set_step(3)
    assert float(other.temperature()) == pytest.approx(2 * 0.9**3)
    other.eval()(normal(3, 8))
    assert other.step.item() == 3


def test_temperature_late_in_the_default_schedule():
    q = build("gumbel", dim=8, codebook_size=16)
    for step in (0, 1000, 100_000, 270_000, 10**6):
        q.set_step(step)
        expected = max(2 * 0.999995**step, 0.5)
        assert float(q.temperature()) == pytest.approx(expected, rel=1e-5)


def test_training_draws_follow_the_logits():
    torch.manual_seed(0)
    q = build("gumbel", dim=4, codebook_size=5, n_codebooks=2)
    x = normal(1, 4)
    probs = q.logits(x).softmax(-1)[0].detach()
    codes = q(x.expand(40_000, -1)).codes
    for group in range(2):
        share = torch.bincount(codes[:, group], minlength=5) / 40_000
        torch.testing.assert_close(share, probs[group], rtol=0, atol=0.01)
    likeliest = q.eval()(x).codes[0]
    assert torch.equal(likeliest, probs.argmax(-1))


def test_gumbel_gradients():
    """Those of one-hot choices with the gradient of the softmax, by autograd."""
    q = build("gumbel", dim=8, codebook_size=5, n_codebooks=2, temperature=(1.5, 1, 1))
    x = normal(30, 8).requires_grad_()
    weight = normal(30, 8, seed=5)
    wanted = [x, *q.parameters()]
    torch.manual_seed(3)
    out = q(x)
    got = torch.autograd.grad((out.quantized * weight).sum(), wanted)
    torch.manual_seed(3)
    logits = q.weight_proj(x).view(30, 2, 5)
    soft = ((logits + gumbel_noise(logits)) / 1.5).softmax(-1)
    hard = F.one_hot(soft.argmax(-1), 5) + soft - soft.detach()
    value = torch.einsum("nkv,kvd->nkd", hard, q.vars.view(2, 5, 4)).flatten(1)
    torch.testing.assert_close(out.quantized, value)
    expected = torch.autograd.grad((value * weight).sum(), wanted)
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
