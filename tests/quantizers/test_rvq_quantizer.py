"""What is particular to `rvq`."""

import math

import pytest
import torch
import torch.nn.functional as F
from random_frames import normal

from sb_espnet_vq import ConfigError, build

# --- rvq


def trained_rvq(**options):
    q = build("rvq", **{"dim": 8, "codebook_size": 16, "n_codebooks": 4, **options})
    for step in range(5):
        q(normal(4, 200, 8, seed=step))
    return q


@pytest.mark.parametrize("code_dim", [None, 4])
def test_more_levels_are_closer(code_dim):
    torch.manual_seed(0)
    q = trained_rvq(code_dim=code_dim)
    x = normal(4, 200, 8, seed=50)
    if code_dim is not None:  # projections have to learn before levels can help
        optimizer = torch.optim.Adam(q.parameters(), 1e-2)
        for _ in range(150):
            out = q.train()(x)
            loss = F.mse_loss(out.quantized, x) + out.loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    codes = q.eval().encode(x)
    errors = [F.mse_loss(q.decode(codes[..., :k]), x).item() for k in range(1, 5)]
    assert errors == sorted(errors, reverse=True), errors
    assert errors[-1] < 0.6 * errors[0], errors


def test_fewer_levels_on_request():
    q = trained_rvq()
    x = normal(2, 30, 8)
    assert torch.equal(q.encode(x, n_codebooks=2), q.encode(x)[..., :2])
    out = q.eval()(x, n_codebooks=3)
    assert out.codes.shape == (2, 30, 3)
    assert torch.equal(q.decode(out.codes), out.quantized)
    last = q.layers[3]._codebook.embed_avg.clone()
    q.train()(x, n_codebooks=3)
    assert torch.equal(q.layers[3]._codebook.embed_avg, last)
    for wrong in (0, 5, 1.5):
        with pytest.raises(ConfigError, match="n_codebooks"):
            q(x, n_codebooks=wrong)


def test_commitment_of_every_level_reaches_the_frames():
    q = trained_rvq(commitment_weight=1.0).eval()
    x = normal(2, 30, 8).requires_grad_()
    (grad,) = torch.autograd.grad(q(x).loss, x)
    codes, expected = q.encode(x), torch.zeros_like(x)
    for k in range(1, 5):
        left = x - q.decode(codes[..., :k])
        expected += 2 * left.detach() / (x.numel() * 4)
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("dropout", [False, True])
def test_gradients_of_factorised_levels(dropout):
    torch.manual_seed(0)
    q = trained_rvq(code_dim=4, n_codebooks=3, quantizer_dropout=dropout).double()
    x = normal(6, 20, 8, dtype=torch.float64).requires_grad_()
    weight = normal(6, 20, 8, seed=7, dtype=torch.float64)
    levels = [(b.project_in, b.project_out, b._codebook.embed) for b in q.layers]
    levels = [(a, b, embed.clone()) for a, b, embed in levels]
    out = q.train()(x)
    kept = (out.codes >= 0).double()
    value = (out.quantized * weight).sum()
    wanted = [x, *q.parameters()]
    got = torch.autograd.grad(value + out.loss, wanted)

    residual, quantized, commitment = x, 0.0, 0.0
    for k, (inward, outward, embed) in enumerate(levels):
        z = inward(residual)
        code = torch.cdist(z.detach(), embed).argmin(-1)
        keep = kept[..., k, None]
        assert torch.equal(code[keep[..., 0] > 0], out.codes[..., k][keep[..., 0] > 0])
        distance = ((z - embed[code]) ** 2).mean(-1)
        commitment = commitment + (distance * keep[..., 0]).mean() / 3
        own = inward(residual.detach())
        value = outward(embed[code] + own - own.detach())
        quantized = quantized + value * keep
        residual = residual - value.detach()
    quantized = quantized + x - x.detach()
    torch.testing.assert_close(out.quantized, quantized)
    torch.testing.assert_close(out.loss.double(), commitment, rtol=1e-5, atol=1e-6)
    expected = torch.autograd.grad((quantized * weight).sum() + commitment, wanted)
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_project_out_against_finite_differences():
    q = trained_rvq(code_dim=4, n_codebooks=2).double().eval()
    x, weight = normal(50, 8, dtype=torch.float64), normal(50, 8, seed=7).double()
    codes = q.encode(x)
    parameters = [p for layer in q.layers for p in layer.project_out.parameters()]
    out = (q(x).quantized * weight).sum()
    grads = torch.autograd.grad(out, parameters)
    for parameter, grad in zip(parameters, grads, strict=True):
        flat = parameter.data.view(-1)
        values = []
        for change in (1e-4, -1e-4):
            flat[0] += change
            values.append((q.decode(codes) * weight).sum().item())
            flat[0] -= change
        assert math.isclose(
            (values[0] - values[1]) / 2e-4, grad.view(-1)[0], rel_tol=1e-6
        )


def test_dropout_drops_whole_levels_of_utterances():
    q = trained_rvq(quantizer_dropout=True)
    x = normal(400, 3, 8)
    out = q.train()(x)
    kept = (out.codes >= 0).sum(-1)
    assert torch.equal(kept, kept[:, :1].expand(-1, 3)), "one number for an utterance"
    assert bool(((out.codes >= 0).int().diff(dim=-1) <= 0).all()), "the last go first"
    share = torch.bincount(kept[:, 0], minlength=5) / 400
    assert share[0] == 0 and bool((share[1:] - 0.25).abs().max() < 0.08), share
    assert bool((q.eval()(x).codes >= 0).all())


def test_every_codebook_learns_under_dropout():
    q = trained_rvq(quantizer_dropout=True, decay=0.0, threshold_ema_dead_code=0)
    q.train()(normal(4, 25, 8))
    for layer in q.layers:
        assert layer._codebook.cluster_size.sum().item() == pytest.approx(100)


def test_loss_under_dropout_is_that_of_kept_levels():
    q = trained_rvq(quantizer_dropout=True)
    x = normal(4, 25, 8)
    before = trained_copy(q)
    out = q.train()(x)
    expected = 0.0
    for k in range(4):
        part = before.decode(out.codes[..., : k + 1])
        keep = (out.codes[..., k] >= 0).float()
        expected += (((x - part) ** 2).mean(-1) * keep).mean().item() / 4
    assert out.loss.item() == pytest.approx(expected, rel=1e-4)


def trained_copy(q):
    other = build("rvq", dim=8, codebook_size=16, n_codebooks=4)
    other.load_state_dict(q.state_dict())
    return other.eval()
