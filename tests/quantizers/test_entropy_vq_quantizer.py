"""What is particular to `entropy_vq`."""

import pytest
import torch
from random_frames import clusters, normal

from sb_espnet_vq import build

# --- entropy_vq


def seed_formula(z, codebook, temp):
    """The commitment and entropy losses, written from their definition."""
    distances = torch.cdist(z[None], codebook[None])[0] ** 2
    codes = distances.argmin(1)
    commitment = ((z - codebook[codes].detach()) ** 2).mean()
    share = (-distances / temp).softmax(1).mean(0)
    return codes, commitment, (share * (share + 1e-10).log()).sum()


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_entropy_vq_follows_the_formula(temperature):
    torch.manual_seed(0)
    q = build(
        "entropy_vq",
        dim=4,
        codebook_size=6,
        temperature=temperature,
        commitment_weight=0.3,
        codebook_weight=0.0,
        entropy_weight=0.7,
    ).double()
    q.codebook.weight.data.copy_(normal(6, 4))
    x = normal(50, 4, dtype=torch.float64).requires_grad_()
    wanted = [x, q.codebook.weight]
    out = q(x)
    codes, commitment, entropy = seed_formula(x, q.codebook.weight, temperature)
    assert torch.equal(out.codes[:, 0], codes)
    assert out.stats["commitment"].item() == pytest.approx(commitment.item(), rel=1e-5)
    assert out.stats["entropy"].item() == pytest.approx(entropy.item(), rel=1e-5)
    got = torch.autograd.grad(out.loss, wanted)
    expected = torch.autograd.grad(0.3 * commitment + 0.7 * entropy, wanted)
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_the_entropy_term_spreads_the_codebook():
    torch.manual_seed(0)
    q = build("entropy_vq", dim=8, codebook_size=48, codebook_weight=0.0)
    optimizer = torch.optim.Adam(q.parameters(), 0.1)
    before = q(clusters(1000)).stats["perplexity"]
    for step in range(100):
        optimizer.zero_grad()
        q(clusters(1000, seed=step)).loss.backward()
        optimizer.step()
    assert q(clusters(1000)).stats["perplexity"] > 2 * before


def test_codebook_term_moves_codes_to_their_frames():
    q = build("entropy_vq", dim=4, codebook_size=6, entropy_weight=0.0)
    x = normal(50, 4)
    out = q(x)
    (grad,) = torch.autograd.grad(out.loss, q.codebook.weight)
    expected = torch.zeros_like(grad)
    for frame, code in zip(x, out.codes[:, 0], strict=True):
        expected[code] += 2 * (q.codebook.weight[code].detach() - frame) / x.numel()
    torch.testing.assert_close(grad, expected)
