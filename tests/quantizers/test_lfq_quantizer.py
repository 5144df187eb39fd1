"""What is particular to `lfq`."""

import pytest
import torch
from random_frames import log_mel, normal

from sb_espnet_vq import ConfigError, build

INV_TEMPERATURE = 4.0


def both(dim, bits, **weights):
    """Return ours and vector-quantize-pytorch's, with the same projections."""
    vqp = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    ours = build("lfq", dim=dim, codebook_size=2**bits, **weights)
    theirs = vqp.LFQ(
        dim=dim,
        codebook_size=2**bits,
        entropy_loss_weight=ours.loss_weights["entropy"],
        commitment_loss_weight=ours.loss_weights["commitment"],
        diversity_gamma=ours.diversity_gamma,
    )
    if dim != bits:
        # Theirs has a bias outward as well.
        torch.nn.init.zeros_(theirs.project_out.bias)
        theirs.load_state_dict(ours.state_dict(), strict=False)
    return ours, theirs


def equals(ours, theirs, frames, inv_temperature=INV_TEMPERATURE, rtol=1e-4):
    weight = normal(*frames.shape, seed=5) / len(frames)
    x, y = frames.clone().requires_grad_(), frames.clone().requires_grad_()
    out = ours(x, inv_temperature=inv_temperature)
    quantized, codes, loss = theirs(y[None], inv_temperature=inv_temperature)
    assert torch.equal(out.codes[:, 0], codes[0])
    torch.testing.assert_close(out.quantized, quantized[0], rtol=0, atol=1e-6)
    assert torch.equal(ours.decode(out.codes), out.quantized)
    torch.testing.assert_close(out.loss, loss, rtol=rtol, atol=rtol)
    mine = [x, *ours.parameters()]
    # Their last parameter is the bias outward.
    other = [y, *theirs.parameters()][: len(mine)]
    got = torch.autograd.grad((out.quantized * weight).sum() + out.loss, mine)
    total = (quantized[0] * weight).sum() + loss
    expected = torch.autograd.grad(total, other)
    for our_grad, their_grad in zip(got, expected, strict=True):
        scale = float(their_grad.abs().max())
        torch.testing.assert_close(our_grad, their_grad, rtol=0, atol=rtol * scale)


WEIGHTS = [
    {"commitment_weight": 0.0},
    {"commitment_weight": 0.25},
    {"entropy_weight": 0.3, "diversity_gamma": 0.6, "commitment_weight": 1.0},
    {"entropy_weight": 0.0, "commitment_weight": 0.5},
]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize("bits", [1, 6])
def test_codes_values_losses_and_gradients_are_vector_quantize_pytorchs(bits, weights):
    equals(*both(bits, bits, **weights), 0.5 * normal(20_000, bits))


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_the_same_on_log_mel_frames_between_projections(weights):
    ours, theirs = both(80, 6, **weights)
    assert ours(log_mel()).stats["used_codes"] > 5
    equals(ours, theirs, log_mel())


def test_the_default_temperature_is_vector_quantize_pytorchs():
    ours, theirs = both(6, 6)
    frames = 0.02 * normal(20_000, 6)
    # Theirs clamps small probabilities in logarithms.
    equals(ours, theirs, frames, inv_temperature=100.0, rtol=2e-3)
    assert torch.equal(ours(frames).loss, ours(frames, inv_temperature=100.0).loss)


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_the_entropy_term_is_exact_over_all_codes(bits):
    q = build("lfq", dim=bits, entropy_weight=1.0, commitment_weight=0.0)
    x = normal(40, bits, dtype=torch.float64).requires_grad_()
    out, usage = q.forward_with_usage(x)
    codes = q.codebook_vectors()[0].double()
    probs = (2 * 100 * x @ codes.t()).softmax(1)
    mean = probs.mean(0)
    expected = mean.xlogy(mean).sum() - probs.xlogy(probs).sum(1).mean()
    torch.testing.assert_close(usage[0], mean)
    assert out.stats["entropy"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_values_are_signs_and_zero_is_negative():
    q = build("lfq", dim=3)
    out = q(torch.tensor([[0.0, 7.0, -0.0]]))
    assert out.codes.item() == 0b010
    assert out.quantized.tolist() == [[-1.0, 1.0, -1.0]]


def test_commitment_is_the_distance_to_the_signs():
    q = build("lfq", dim=4, commitment_weight=0.7, entropy_weight=0.0)
    x = normal(2, 30, 4)
    mask = torch.arange(30) < torch.tensor([[30], [11]])
    out = q(x, mask=mask)
    expected = (x[mask].abs() - 1).square().mean()
    torch.testing.assert_close(out.stats["commitment"], expected)
    torch.testing.assert_close(out.loss, 0.7 * expected)


@pytest.mark.parametrize("bits", [27, 62])
def test_codes_of_many_bits_are_exact(bits):
    q = build("lfq", dim=bits)
    x = normal(200, bits)
    codes = q.encode(x)
    expected = [int("".join("01"[int(v > 0)] for v in row), 2) for row in x.tolist()]
    assert codes[:, 0].tolist() == expected
    assert torch.equal(q.decode(codes), torch.where(x > 0, 1.0, -1.0))


@pytest.mark.parametrize("size", [0, 1, 12, 2**63])
def test_other_sizes_are_refused_by_name(size):
    with pytest.raises(ConfigError, match=r"codebook_size"):
        build("lfq", dim=5, codebook_size=size)
    with pytest.raises(ConfigError, match="lfq needs"):
        build("lfq", dim=5, codebook_size=12)
