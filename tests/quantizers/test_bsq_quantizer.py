"""What is particular to `bsq`."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from random_frames import normal

from sb_espnet_vq import ConfigError, build

# --- bsq


def all_codes(bits):
    signs = list(itertools.product((-1.0, 1.0), repeat=bits))
    return torch.tensor(signs, dtype=torch.float64) / bits**0.5


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("inv_temperature", [0.5, 5.0])
def test_bsq_against_all_codes(bits, inv_temperature):
    q = build(
        "bsq",
        dim=bits,
        entropy_weight=1.0,
        diversity_gamma=0.6,
        inv_temperature=inv_temperature,
    )
    x = normal(40, bits, dtype=torch.float64).requires_grad_()
    out = q(x)
    u, codes = F.normalize(x, dim=-1), all_codes(bits)
    assert torch.equal(out.codes[:, 0], torch.cdist(u.detach(), codes).argmin(1))
    torch.testing.assert_close(q.decode(out.codes).double(), codes[out.codes[:, 0]])
    probs = (2 * inv_temperature * u @ codes.t()).softmax(1)
    single = -(probs * (probs + 1e-30).log()).sum(1).mean()
    mean = probs.mean(0)
    expected = single + 0.6 * (mean * (mean + 1e-30).log()).sum()
    assert out.stats["entropy"].item() == pytest.approx(
        expected.item(), rel=1e-4, abs=1e-6
    )
    (got,) = torch.autograd.grad(out.loss, x)
    (grad,) = torch.autograd.grad(expected, x)
    torch.testing.assert_close(got, grad, rtol=1e-4, atol=1e-6)


def test_bsq_zero_is_negative():
    q = build("bsq", dim=3)
    assert q.encode(torch.tensor([[0.0, 1.0, -0.0]])).item() == 0b010


@pytest.mark.parametrize("bits", [18, 27, 31, 32, 53, 62])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_codes_of_many_bits_are_exact(bits, dtype):
    """Codes computed in floats are wrong from 18 bits (bf16) or 27 (fp32) on."""
    q = build("bsq", dim=bits, entropy_weight=0.0)
    x = normal(200, bits).to(dtype)
    codes = q.encode(x)[:, 0].tolist()
    expected = [int("".join("01"[int(v > 0)] for v in row), 2) for row in x.tolist()]
    assert codes == expected
    signs = q.decode(q.encode(x)) > 0
    assert torch.equal(signs, x > 0)
    assert q(x).stats["used_codes"] == len(set(expected))


def test_entropy_of_twenty_bits():
    q = build("bsq", dim=20, entropy_weight=0.1)
    x = normal(64, 20).requires_grad_()
    out = q(x)
    out.loss.backward()
    assert bool(out.loss.isfinite()) and bool(x.grad.isfinite().all())


def test_a_frame_of_zeros_has_a_gradient_of_the_size_of_others():
    q = build("bsq", dim=4)
    x = normal(6, 4)
    x[2] = 0
    x.requires_grad_()
    out = q(x)
    (out.quantized.sum() + out.loss).backward()
    assert bool((x.grad.abs() < 100).all())


def test_bsq_sizes():
    assert build("bsq", dim=5).codebook_size == 32
    assert build("bsq", dim=30).loss_weights["entropy"] == 0
    for size in (0, 1, 12, 2**63):
        with pytest.raises(ConfigError, match="codebook_size"):
            build("bsq", dim=5, codebook_size=size)
    with pytest.raises(ConfigError, match="entropy_weight"):
        build("bsq", dim=30, entropy_weight=0.1)
