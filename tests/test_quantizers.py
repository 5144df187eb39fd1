"""Properties of single quantizers; test_contract.py tests those of all.

Defects of other packages that the contract checks cover: an all-True mask that
differs from none, masks refused with projections, padding in the diversity loss,
NaN that spreads, autocast that flips codes, modules made before the process group,
ranks without frames, tracing, and decoding a prefix.
"""

import copy
import itertools
import math
import os
import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sb_espnet_vq import ConfigError, ShapeError, build, list_quantizers
from sb_espnet_vq.bench.memory import extra_peak_bytes
from sb_espnet_vq.nnet.quantisers import GumbelVectorQuantizer
from sb_espnet_vq.ops.estimators import gumbel_noise
from sb_espnet_vq.quantizers.class_partitioned import class_of_keys
from sb_espnet_vq.quantizers.precision import full_precision


def normal(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def clusters(n, count=48, dim=8, seed=0):
    """Frames around ``count`` well separated middles."""
    middles = normal(count, dim, seed=99) * 4
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(0, count, (n,), generator=generator)
    return middles[chosen] + 0.1 * torch.randn(n, dim, generator=generator)


def small_clusters(n, seed=0):
    """As `clusters`, seen through a pinhole: most codes start far from any frame."""
    return clusters(n, seed=seed) + 20


# --- vq: the moving average, its start and the revival of dead codes


def test_kmeans_starts_at_the_first_training_batch():
    q = build("vq", dim=8, codebook_size=48, threshold_ema_dead_code=0)
    x = clusters(2000)
    q.eval()(x)
    assert q._codebook.inited.item() == 0 and not q._codebook.started
    out = q.train()(x)
    assert q._codebook.inited.item() == 1 and q._codebook.started
    # Middles are 4 apart in each dim, frames 0.1 around them.
    assert out.stats["perplexity"] > 20 and out.stats["commitment"] < 5


@pytest.mark.parametrize("threshold", [0, 2])
@pytest.mark.parametrize("name", ["vq", "rvq"])
def test_with_fewer_frames_than_codes_every_entry_is_a_frame(name, threshold):
    q = build(name, dim=8, codebook_size=256, threshold_ema_dead_code=threshold)
    x = clusters(60)
    for _ in range(3):
        q.train()(x)
    book = q._codebook if name == "vq" else q.layers[0]._codebook
    nearest = torch.cdist(book.embed, x).amin(1)
    # Frames of one cluster are 0.1 apart in each dim; the origin is 8 away.
    assert float(nearest.max()) < 1, nearest


def test_an_entry_that_no_frame_chooses_any_more_stays():
    q = build("vq", dim=8, codebook_size=48, threshold_ema_dead_code=0, decay=0.5)
    q.train()(clusters(2000))
    before = q._codebook.embed.clone()
    few = clusters(2000)[:1].expand(100, -1)
    for _ in range(300):  # until counts are below what float32 can hold
        q(few)
    moved = (q._codebook.embed - before).norm(dim=1)
    assert int((moved > 1e-2).sum()) <= 1, moved
    assert int((q._codebook.cluster_size < 1e-30).sum()) > 20


@pytest.mark.parametrize("name", ["vq", "rvq"])
def test_held_vectors_do_not_change(name):
    q = build(name, dim=8, codebook_size=48)
    q.train()(clusters(2000))
    held = torch.arange(48) < 20
    books = [q._codebook] if name == "vq" else [layer._codebook for layer in q.layers]
    before = [{k: v.clone() for k, v in book.state_dict().items()} for book in books]
    q.hold(held)
    for seed in (1, 2):
        q(clusters(300, seed=seed))  # few frames, so that some codes are revived
    for book, old in zip(books, before, strict=True):
        for key in ("embed", "embed_avg", "cluster_size"):
            new = book.state_dict()[key]
            assert torch.equal(new[held], old[key][held]), key
            assert not torch.equal(new[~held], old[key][~held]), key
    q.hold(None)
    q(clusters(300, seed=3))
    assert not torch.equal(books[0].embed[held], before[0]["embed"][held])


LEARNT_TABLES = {
    "entropy_vq": lambda q: q.codebook.weight[None],
    "class_partitioned": lambda q: q.embedding.weight[None],
    "gumbel": lambda q: q.vars.unflatten(1, (2, -1))[0],
}


@pytest.mark.parametrize("name", LEARNT_TABLES)
def test_vectors_that_learn_by_gradient_are_held(name):
    q, table = build(name, dim=8, codebook_size=16), LEARNT_TABLES[name]
    held = torch.arange(16).expand(q.n_codebooks, 16) % 3 == 0
    q.hold(held)
    before = table(q).detach().clone()
    optimizer = torch.optim.Adam(q.parameters(), lr=0.1)
    for seed in range(3):
        out = q.train()(normal(2, 200, 8, seed=seed))
        optimizer.zero_grad()
        (out.loss + out.quantized.square().sum()).backward()
        optimizer.step()
    assert torch.equal(table(q)[held], before[held])
    moved = (table(q)[~held] != before[~held]).any(-1)
    assert bool(moved.any())


@pytest.mark.parametrize("name", sorted({*list_quantizers()} - {"random_projection"}))
def test_frozen_from_the_outset(name):
    q = build(name, dim=8, codebook_size=16, frozen=True)
    assert q.frozen and not any(p.requires_grad for p in q.parameters())
    before = {key: value.clone() for key, value in q.state_dict().items()}
    q.train()(normal(2, 50, 8))
    assert all(torch.equal(q.state_dict()[key], before[key]) for key in before)
    with pytest.raises(ConfigError, match="frozen must be true or false"):
        build(name, dim=8, codebook_size=16, frozen="no")


def test_vectors_can_be_held_from_the_start():
    q = build("vq", dim=8, codebook_size=48)
    held = torch.arange(48) < 20
    before = q._codebook.embed.clone()
    q.hold(held)
    q.train()(clusters(2000))
    assert torch.equal(q._codebook.embed[held], before[held])


def test_invalid_masks_of_held_vectors_are_refused():
    q = build("vq", dim=8, codebook_size=48)
    for wrong in (torch.ones(47).bool(), torch.ones(48), [True] * 48):
        with pytest.raises(ShapeError, match="entries must be"):
            q.hold(wrong)
    with pytest.raises(ConfigError, match="no codebook vectors that learn"):
        build("random_projection", dim=8).hold(torch.ones(8192).bool())


def test_codebook_vectors_move_to_the_mean_of_their_frames():
    options = {"decay": 0.5, "kmeans_init": False, "threshold_ema_dead_code": 0}
    q = build("vq", dim=1, codebook_size=2, **options)
    book = q._codebook
    book.embed.copy_(torch.tensor([[0.0], [10.0]]))
    book.embed_avg.copy_(torch.tensor([[0.0], [10.0]]))
    book.cluster_size.fill_(1)
    out = q(torch.tensor([[1.0], [2.0], [9.0]]))
    assert out.codes.flatten().tolist() == [0, 0, 1]
    assert out.quantized.flatten().tolist() == [0.0, 0.0, 10.0]
    torch.testing.assert_close(book.cluster_size, torch.tensor([1.5, 1.0]))
    torch.testing.assert_close(book.embed_avg, torch.tensor([[1.5], [9.5]]))
    expected = torch.tensor([[1.0], [9.5]])
    torch.testing.assert_close(book.embed, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("threshold", [0, 2])
def test_a_random_start_stays_where_frames_are(decay, threshold):
    """Codebook vectors without frames must not diverge."""
    q = build(
        "vq",
        dim=8,
        codebook_size=64,
        kmeans_init=False,
        decay=decay,
        threshold_ema_dead_code=threshold,
    )
    for step in range(20):
        out = q(clusters(400, seed=step))
    assert bool(out.loss.isfinite())
    near = 2 * clusters(400).abs().max()
    assert q.eval()(clusters(400)).quantized.abs().max() < near
    if threshold == 0:  # else entries that flew off are revived
        assert q._codebook.embed.abs().max() < near


def test_dead_codes_are_revived():
    used, error = [], []
    for threshold in (0, 2):
        torch.manual_seed(0)
        q = build(
            "vq",
            dim=8,
            codebook_size=64,
            kmeans_init=False,
            threshold_ema_dead_code=threshold,
        )
        for step in range(40):
            q(small_clusters(600, seed=step))
        out = q.eval()(small_clusters(2000, seed=1000))
        used.append(out.stats["used_codes"].item())
        error.append(out.stats["commitment"].item())
    assert used[0] < 10 and used[1] >= 48, used
    assert error[1] < error[0] / 10, error


def test_a_revived_code_is_a_frame_of_the_batch():
    q = build("vq", dim=2, codebook_size=4, kmeans_init=False)
    book = q._codebook
    start = torch.tensor([[0.0, 0.0], [500.0, 0.0], [0.0, 500.0], [500.0, 500.0]])
    book.embed.copy_(start)
    book.embed_avg.copy_(start * 40)
    book.cluster_size.copy_(torch.tensor([40.0, 0.0, 40.0, 40.0]))
    x = normal(30, 2)
    out = q(x)
    assert bool((out.codes == 0).all()), "revival must come after the lookup"
    assert any(torch.equal(book.embed[1], frame) for frame in x)
    near = [abs(book.embed[k] - start[k]).max().item() < 1 for k in (2, 3)]
    assert near == [True, True], "codes in use are not revived"
    torch.testing.assert_close(book.embed_avg[1], book.embed[1] * book.cluster_size[1])


def test_codes_in_use_survive_small_batches():
    """A batch with fewer frames than threshold * codebook_size kills no live code."""
    q = build("vq", dim=8, codebook_size=48, decay=0.9)
    for step in range(5):
        q(clusters(480, seed=step))
    before = q._codebook.embed.clone()
    for step in range(20):
        q(clusters(60, seed=100 + step))
    moved = (q._codebook.embed - before).norm(dim=1)
    assert (moved < 1).float().mean() > 0.8, moved


def test_training_draws_alike_whether_a_code_is_dead_or_not():
    """Ranks of which one drew and another did not would wait for each other."""
    states = []
    for dead in (False, True):
        q = build("vq", dim=8, codebook_size=4, kmeans_init=False)
        q._codebook.cluster_size.fill_(100)
        if dead:
            q._codebook.cluster_size[0] = 0
        torch.manual_seed(0)
        q(normal(400, 8))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


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


# --- random_projection


@pytest.mark.parametrize(("dim", "code_dim"), [(20, 6), (4, 6)])
def test_random_projection(dim, code_dim):
    q = build("random_projection", dim=dim, codebook_size=50, code_dim=code_dim)
    x = normal(200, dim)
    codes = q.encode(x)
    projected = F.normalize(x @ q.P)
    assert torch.equal(codes[:, 0], torch.cdist(projected, q.CB).argmin(1))
    assert torch.equal(q.encode(x * 7), codes), "the norm of a frame does not matter"
    expected = q.CB[codes[:, 0]] @ torch.linalg.pinv(q.P)
    torch.testing.assert_close(q.decode(codes), expected, rtol=1e-4, atol=1e-5)
    if dim >= code_dim:
        torch.testing.assert_close(
            q.decode(codes) @ q.P, q.CB[codes[:, 0]], rtol=1e-4, atol=1e-5
        )
    assert not list(q.parameters()) and set(q.state_dict()) == {"P", "CB"}


def test_pseudo_inverse_is_rebuilt_on_load():
    q, other = (build("random_projection", dim=8, codebook_size=16) for _ in range(2))
    other.load_state_dict(q.state_dict())
    assert torch.equal(other.unproject, q.unproject)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_pseudo_inverse_is_that_of_the_cast_projection(dtype):
    q, other = (build("random_projection", dim=8).to(dtype) for _ in range(2))
    other.load_state_dict(q.state_dict())
    codes = torch.arange(9)[:, None]
    value, inverse = q.decode(codes), torch.linalg.pinv(q.P)
    assert torch.equal(other.decode(codes), value)
    assert torch.equal(value, q.CB[:9] @ inverse)
    # Tables that were rounded to half precision would give other labels.
    assert q.P.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_pseudo_inverse_follows_a_projection_written_in_place():
    q, other = (build("random_projection", dim=8, codebook_size=16) for _ in range(2))
    with torch.no_grad():
        for mine, theirs in zip(q.buffers(), other.buffers(), strict=True):
            if mine is not q.unproject:
                mine.copy_(theirs)
    codes = torch.arange(9)[:, None]
    assert torch.equal(q.decode(codes), other.decode(codes))


# --- class_partitioned


@pytest.mark.parametrize("shared", [0, 3])
def test_classes_keep_to_their_keys(shared):
    torch.manual_seed(0)
    q = build(
        "class_partitioned",
        dim=4,
        codebook_size=17,
        num_classes=3,
        shared_keys=shared,
    )
    q.embedding.weight.data.normal_()
    owner = class_of_keys(17, 3, shared).long().tolist() + [-1] * shared
    x, labels = normal(6, 50, 4), torch.tensor([0, 1, 2, 2, 1, 0])
    owners = {}
    for training in (True, False):
        codes = q.train(training)(x, labels=labels).codes[..., 0].tolist()
        for row, label in zip(codes, labels.tolist(), strict=True):
            found = {owner[code] for code in row}
            assert found <= ({label} if training else {label, -1})
            owners[training] = owners.get(training, set()) | found
    assert (-1 in owners[False]) == bool(shared)
    free = q(x).codes
    assert torch.equal(
        free.reshape(-1), torch.cdist(x.reshape(-1, 4), q.embedding.weight).argmin(1)
    )


def test_every_class_needs_a_key():
    with pytest.raises(ConfigError, match="class"):
        build("class_partitioned", dim=4, codebook_size=5, num_classes=4, shared_keys=2)


def test_each_term_of_the_codebook_loss():
    q = build("class_partitioned", dim=4, codebook_size=6, commitment_weight=0.3)
    x = normal(50, 4).requires_grad_()
    out = q(x)
    chosen = q.embedding.weight[out.codes[:, 0]]
    expected = 0.3 * F.mse_loss(x, chosen.detach()) + F.mse_loss(x.detach(), chosen)
    wanted = [x, q.embedding.weight]
    torch.testing.assert_close(out.loss, expected)
    pairs = [torch.autograd.grad(y, wanted) for y in (out.loss, expected)]
    for mine, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(mine, theirs)


# --- what all quantizers take over from their base


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_default_dtype_changes_no_loss(dtype):
    q = build("vq", dim=8, codebook_size=16)
    x = normal(50, 8)
    expected = q.eval()(x).loss
    try:
        torch.set_default_dtype(dtype)
        loss = q(x).loss
    finally:
        torch.set_default_dtype(torch.float32)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def test_losses_of_doubles_are_not_rounded():
    x = normal(3, 8, dtype=torch.float64).requires_grad_()
    q = build("entropy_vq", dim=8, codebook_size=16, entropy_weight=0).double()
    out = q(x)
    expected = 0.25 * (x - q.decode(out.codes)).square().mean()
    (got,) = torch.autograd.grad(out.loss, x)
    (wanted,) = torch.autograd.grad(expected, x)
    # One rounding to float32, of the loss that the trainer gets.
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=0)


def test_sizes_from_numpy():
    q = build("vq", dim=np.int64(8), codebook_size=np.int32(16))
    assert type(q.dim) is int and type(q.codebook_size) is int


@pytest.mark.parametrize("name", list_quantizers())
def test_shapes_without_data(name):
    """On the meta device, as tools do that count parameters or operations."""
    with torch.device("meta"):
        q = build(name, dim=8, codebook_size=16).eval()
        assert q(torch.empty(2, 5, 8)).quantized.shape == (2, 5, 8)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_short_products_are_not_used(precision, monkeypatch):
    """TF32 and the like, which trainers switch on, would flip codes."""
    q = build("vq", dim=8, codebook_size=16)
    search, seen = q._codebook.search, []

    def look(x):
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return search(x)

    monkeypatch.setattr(q._codebook, "search", look)
    with warnings.catch_warnings():
        # That it serves no CPU.
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision(precision)
        try:
            before = torch.backends.mkldnn.matmul.fp32_precision
            q(normal(2, 30, 8))
            q.encode(normal(2, 30, 8))
            after = torch.backends.mkldnn.matmul.fp32_precision
            with pytest.raises(ShapeError):
                q(normal(2, 30, 9))
            assert torch.get_float32_matmul_precision() == precision
        finally:
            torch.set_float32_matmul_precision("highest")
    assert after == before and set(seen) == {"ieee"}


ONE_GROUP = {"gumbel": {"n_codebooks": 1}}
HOUR = 3600 * 75
WIDE = {
    "bsq": {"codebook_size": 2**16},
    "class_partitioned": {"codebook_size": 1024, "num_classes": 4},
    "rvq": {"codebook_size": 1024, "n_codebooks": 2},
}


@pytest.fixture(scope="module")
def hour():
    return normal(1, HOUR, 96)


LONG = [*((name, False) for name in list_quantizers()), ("class_partitioned", True)]


def encoder(name, labelled):
    q = build(name, dim=96, **WIDE.get(name, {"codebook_size": 1024})).eval()
    labels = torch.tensor([1]) if labelled else None
    return lambda x: q.encode(x, labels=labels)


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be reset"
)
@pytest.mark.parametrize(("name", "labelled"), LONG)
def test_an_hour_is_encoded_in_little_memory(name, labelled, hour):
    """270,000 frames with 1024 scores each would be 1 GiB; the frames are 99 MiB."""
    encode, found = encoder(name, labelled), []
    # Channels-first layout, as in codecs: copying the whole input would be detected.
    x = hour.transpose(1, 2).contiguous().transpose(1, 2)
    extra = extra_peak_bytes("cpu", lambda: found.append(encode(x)))
    allowed = 64 * 2**20 + 3 * found[0].nbytes
    assert extra < allowed, f"{extra / 2**20:.0f} MiB"


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be reset"
)
@pytest.mark.parametrize("name", ["entropy_vq", "gumbel", "GumbelVectorQuantizer"])
def test_training_with_many_codes_takes_little_memory(name):
    """Less than one table of scores; without tiles a step holds several."""
    if name == "GumbelVectorQuantizer":
        q = GumbelVectorQuantizer(16, 8192, (2.0, 0.5, 0.9), 1, 16)
    else:
        q = build(name, dim=16, codebook_size=8192, **ONE_GROUP.get(name, {}))
    x = normal(4, 750, 16).requires_grad_()

    def step():
        out = q(x)
        terms = out.values() if isinstance(out, dict) else out
        learnt = [each for each in terms if getattr(each, "requires_grad", False)]
        sum(each.sum() for each in learnt).backward()

    extra, table = extra_peak_bytes("cpu", step), 3000 * 8192 * 4
    assert extra < table, f"{extra / 2**20:.0f} of {table / 2**20:.0f} MiB"


@pytest.mark.parametrize(("name", "labelled"), LONG)
def test_an_hour_in_pieces_has_the_same_codes(name, labelled, hour):
    encode = encoder(name, labelled)
    codes = encode(hour)
    pieces = [encode(each) for each in hour[:, :4500].split(75, 1)]
    assert torch.equal(torch.cat(pieces, 1), codes[:, :4500]), "second by second"
    # Rounding may tip a near-tie where another kernel serves another size.
    pieces = [encode(each) for each in hour.split(7500, 1)]
    assert (torch.cat(pieces, 1) != codes).sum() < 5, "in pieces of 100 s"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vq", {"kmeans_init": "false"}),
        ("rvq", {"kmeans_init": 1}),
        ("rvq", {"quantizer_dropout": "false"}),
        ("vq", {"commitment_weight": math.inf}),
        ("bsq", {"entropy_weight": math.nan}),
        ("class_partitioned", {"shared_keys": 2.5}),
        ("class_partitioned", {"shared_keys": -1}),
    ],
)
def test_options_of_the_wrong_kind_are_refused(name, options):
    """The text "false" would count as true, and an infinite weight as a number."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        build(name, dim=8, codebook_size=16, **options)


def test_a_temperature_before_the_start_is_refused():
    with pytest.raises(ConfigError, match="step"):
        build("gumbel", dim=8, codebook_size=16).set_step(-3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rvq", {}),
        ("rvq", {"code_dim": 3}),
        ("bsq", {"codebook_size": 64}),
        ("entropy_vq", {}),
        ("vq", {}),
        ("class_partitioned", {}),
    ],
)
def test_second_derivatives(name, options):
    """Those of float32, which has ways of its own on a CPU, against float64's."""
    q = build(name, dim=8, **({"codebook_size": 16} | options))
    q(normal(1, 40, 8))
    found = []
    for dtype in (torch.float32, torch.float64):
        x = normal(1, 40, 8, seed=1).to(dtype).requires_grad_()
        # Each from the same state: a training step would move the codebooks.
        fresh = copy.deepcopy(q).to(dtype)
        (slope,) = torch.autograd.grad(fresh(x).loss, x, create_graph=True)
        found += torch.autograd.grad(slope.square().sum(), x)
    assert float(found[1].abs().sum()) > 0
    torch.testing.assert_close(found[0].double(), found[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", list_quantizers())
def test_codes_may_be_written_into(name):
    q = build(name, dim=8, codebook_size=16)
    x = normal(2, 30, 8).requires_grad_()
    out = q(x)
    out.codes.add_(1)
    (out.loss + out.quantized.sum()).backward()
    assert bool(x.grad.isfinite().all())


# In eval gumbel passes no gradient to its input.
@pytest.mark.parametrize("name", sorted({*list_quantizers()} - {"gumbel"}))
def test_functional_gradients(name):
    q = build(name, dim=8, codebook_size=16)
    q(normal(2, 30, 8))
    q.eval()

    def total(x):
        out = q(x)
        return out.loss + out.quantized.square().sum()

    x = normal(2, 30, 8).requires_grad_()
    (expected,) = torch.autograd.grad(total(x), x)
    torch.testing.assert_close(torch.func.grad(total)(x.detach()), expected)


def test_an_inherited_precision_stays_inherited():
    backends = torch.backends
    try:
        # Nothing of its own, whatever ran before.
        backends.mkldnn.matmul.fp32_precision = "none"
        backends.fp32_precision = "tf32"
        build("vq", dim=8, codebook_size=16)(normal(2, 30, 8))
        assert backends.mkldnn.matmul.fp32_precision == "tf32"
        backends.fp32_precision = "ieee"
        assert backends.mkldnn.matmul.fp32_precision == "ieee"
    finally:
        backends.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")


def test_threads_hold_the_precision_for_each_other():
    x = torch.zeros(1)
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with full_precision(x):
            inside.set()
            leave.wait(10)

    setting = torch.backends.mkldnn.matmul
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision("medium")
    try:
        thread = threading.Thread(target=stay)
        with full_precision(x):
            thread.start()
            assert inside.wait(10)
        assert setting.fp32_precision == "ieee"
        leave.set()
        thread.join()
        assert setting.fp32_precision == "bf16"
    finally:
        leave.set()
        torch.set_float32_matmul_precision("highest")
