"""Codebooks, metrics and estimators of `vq` and `rvq`, and `simvq`."""

import pytest
import torch
import torch.nn.functional as F
from random_frames import log_mel, normal

from sb_espnet_vq import ConfigError, build
from sb_espnet_vq.ops import vector_estimators
from sb_espnet_vq.toolkit_words import translate

TABLES = ["gradient", "simvq", "frozen"]


def _frames(kind):
    return normal(500, 80) if kind == "random" else log_mel()[:500]


def _dac_like():
    torch.manual_seed(0)
    sizes = {"dim": 80, "codebook_size": 64, "n_codebooks": 3, "code_dim": 8}
    return build("rvq", **sizes, codebook="gradient", metric="cosine").double()


@pytest.mark.parametrize("kind", ["random", "log-mel"])
def test_dac_levels_in_plain_operations(kind):
    q, x = _dac_like(), _frames(kind).double().requires_grad_()
    residual, value, commitment, codebook = x, 0.0, 0.0, 0.0
    for level, layer in enumerate(q.layers):
        z, table = layer.project_in(residual), layer._codebook.weight
        codes = (F.normalize(z) @ F.normalize(table).t()).argmax(1)
        assert torch.equal(codes, q.encode(x)[:, level])
        found = table[codes]
        commitment = commitment + F.mse_loss(z, found.detach()) / 3
        codebook = codebook + F.mse_loss(z.detach(), found) / 3
        step = layer.project_out(z + (found - z).detach())
        value, residual = value + step, residual - step
    weight = normal(*x.shape, seed=5, dtype=torch.float64)
    wanted = [x, *q.parameters()]
    expected = torch.autograd.grad(
        (value * weight).sum() + commitment + codebook, wanted
    )
    out = q.train()(x)
    torch.testing.assert_close(out.quantized, value)
    stats = out.stats["commitment"], out.stats["codebook"]
    torch.testing.assert_close(stats, (commitment.float(), codebook.float()))
    got = torch.autograd.grad((out.quantized * weight).sum() + out.loss, wanted)
    # The loss is summed in float32.
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)


def test_dac_of_transformers():
    """Their losses are sums over codebooks, ours means."""
    transformers = pytest.importorskip("transformers")
    config = transformers.DacConfig(
        hidden_size=80, n_codebooks=3, codebook_size=64, codebook_dim=8
    )
    theirs = transformers.DacModel(config).quantizer.double().eval()
    q = _dac_like()
    with torch.no_grad():
        for level, layer in zip(theirs.quantizers, q.layers, strict=True):
            level.codebook.weight.copy_(layer._codebook.weight)
            for conv, linear in (
                (level.in_proj, layer.project_in),
                (level.out_proj, layer.project_out),
            ):
                conv.weight.copy_(linear.weight[..., None])
                conv.bias.copy_(linear.bias)
    x = normal(2, 50, 80, dtype=torch.float64).requires_grad_()
    value, codes, _, commitment, codebook = theirs(x.transpose(1, 2))
    value = value.transpose(1, 2)
    out = q(x)
    assert torch.equal(out.codes, codes.transpose(1, 2))
    torch.testing.assert_close(out.quantized, value)
    loss = (commitment + codebook).mean() / 3
    torch.testing.assert_close(out.loss, loss.float())
    got = torch.autograd.grad(out.quantized.square().sum() + out.loss, x)
    expected = torch.autograd.grad(value.square().sum() + loss, x)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ["random", "log-mel"])
@pytest.mark.parametrize("estimator", ["ste", "rotation"])
def test_simvq_of_vector_quantize_pytorch(kind, estimator):
    vqp = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    q = build("simvq", dim=80, codebook_size=64, estimator=estimator)
    theirs = vqp.SimVQ(80, 64, rotation_trick=estimator == "rotation")
    book = q._codebook
    with torch.no_grad():
        theirs.frozen_codebook.copy_(book.table)
        theirs.code_transform.weight.copy_(book.linear.weight)
    x = _frames(kind)[None].requires_grad_()
    weight = normal(*x.shape, seed=5)
    value, codes, loss = theirs(x)
    out = q.train()(x)
    assert torch.equal(out.codes[..., 0], codes)
    torch.testing.assert_close(out.quantized, value)
    torch.testing.assert_close(out.loss, loss)
    got = torch.autograd.grad(
        (out.quantized * weight).sum() + out.loss, [x, book.linear.weight]
    )
    expected = torch.autograd.grad(
        (value * weight).sum() + loss, [x, theirs.code_transform.weight]
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def _found(kind):
    x = _frames(kind).clone().requires_grad_()
    value = x.detach()[torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    return x, value.requires_grad_()


@pytest.mark.parametrize("kind", ["random", "log-mel"])
def test_rotation_of_vector_quantize_pytorch(kind):
    theirs = pytest.importorskip("vector_quantize_pytorch.vector_quantize_pytorch")
    x, value = _found(kind)
    weight = normal(*x.shape, seed=5)
    y = vector_estimators.rotate(x, value)
    assert torch.equal(y, value)
    got = torch.autograd.grad(y, x, weight)
    expected = torch.autograd.grad(theirs.rotate_to(x, value), x, weight)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["random", "log-mel"])
def test_diveq_of_vector_quantize_pytorch(kind):
    theirs = pytest.importorskip("vector_quantize_pytorch.vector_quantize_pytorch")
    x, value = _found(kind)
    results = []
    for call in (
        vector_estimators.perturb_direction,
        lambda x, value: theirs.directional_reparam(x, value, 1e-3),
    ):
        torch.manual_seed(3)
        y = call(x, value)
        grads = torch.autograd.grad(y, [x, value], normal(*x.shape, seed=5))
        results.append((y, *grads))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_nsvq_against_its_equation():
    x, value = _found("random")
    weight = normal(*x.shape, seed=5)
    torch.manual_seed(3)
    y = vector_estimators.substitute_noise(x, value)
    got = torch.autograd.grad(y, [x, value], weight)
    torch.manual_seed(3)
    noise = torch.randn_like(x)
    distance = (x - value).norm(dim=1, keepdim=True)
    expected = x + distance * noise / noise.norm(dim=1, keepdim=True)
    torch.testing.assert_close(y, expected)
    expected = torch.autograd.grad(expected, [x, value], weight)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("call", ["rotate", "substitute_noise", "perturb_direction"])
def test_frames_of_zeros_and_on_a_vector_have_finite_gradients(call):
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    value = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    y = getattr(vector_estimators, call)(x, value)
    torch.testing.assert_close(y, value)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, torch.ones_like(x))


@pytest.mark.parametrize("estimator", ["nsvq", "diveq"])
def test_noise_has_the_length_of_the_error_of_all_levels(estimator):
    torch.manual_seed(0)
    given = {"dim": 8, "codebook_size": 16, "n_codebooks": 3, "codebook": "gradient"}
    q = build("rvq", **given, estimator=estimator)
    x = normal(100, 8)
    out, value = q.train()(x), q.decode(q.encode(x))
    assert not torch.equal(out.quantized, value)
    torch.testing.assert_close(
        (out.quantized - x).norm(dim=1), (value - x).norm(dim=1), rtol=1e-4, atol=1e-5
    )
    out.quantized.square().sum().backward()
    assert all(bool(p.grad.any()) for p in q.parameters())


@pytest.mark.parametrize("codebook", TABLES)
def test_kmeans_starts_every_table(codebook):
    x, started, ema = normal(400, 8), [], []
    for name, into in ((codebook, started), ("ema", ema)):
        torch.manual_seed(0)
        q = build("vq", dim=8, codebook_size=16, codebook=name, kmeans_init=True)
        torch.manual_seed(1)
        q.train()(x)
        if name == "ema":
            # Undo the update after the start.
            torch.manual_seed(0)
            q = build("vq", dim=8, codebook_size=16, decay=1.0)
            torch.manual_seed(1)
            q.train()(x)
        into.append(q.codebook_vectors())
    torch.testing.assert_close(started, ema)


def test_an_option_of_another_codebook_is_refused():
    for call in (
        lambda **o: build("rvq", dim=8, codebook="gradient", **o),
        lambda **o: type(build("vq", dim=8))(8, codebook="gradient", **o),
    ):
        with pytest.raises(ConfigError, match=r"'?gradient'? has no.*'decay'.*kmeans"):
            call(decay=0.9)
    for wrong in ({"codebook": "emma"}, {"metric": "l1"}, {"estimator": "st"}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be one of"):
            build("rvq", dim=8, **wrong)


def test_words_of_a_toolkit_suit_the_chosen_codebook():
    words = {"dimension": 8, "bins": 32, "decay": 0.9, "kmeans_iters": 5}
    options = translate("vq", words, {"codebook": "gradient"})
    assert "decay" not in options and options["kmeans_iters"] == 5
    assert build("vq", **options)._codebook.kmeans_iters == 5


@pytest.mark.parametrize("codebook", ["simvq", "frozen"])
def test_vectors_that_move_together_cannot_be_held(codebook):
    q = build("vq", dim=8, codebook_size=4, codebook=codebook)
    with pytest.raises(ConfigError, match="none can be held"):
        q.hold(torch.ones(4, dtype=torch.bool))


def test_held_parameters_get_no_gradient():
    q = build("vq", dim=8, codebook_size=4, codebook="gradient", kmeans_init=True)
    held = torch.tensor([True, False, False, False])
    before = q.codebook_vectors()[0, 0]
    q.hold(held)
    q.train()(normal(100, 8)).loss.backward()
    assert torch.equal(q.codebook_vectors()[0, 0], before)
    grad = q._codebook.weight.grad
    assert not grad[0].any() and grad[1:].any()
