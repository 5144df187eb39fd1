"""Checks of outputs: shapes, decoding, losses, gradients."""

import math

import torch

from sb_espnet_vq.testing.helpers import (
    INTEGERS,
    frames,
    gradients,
    labels_for,
    make,
    make_started,
    run,
    same,
    same_output,
    some_mask,
    train,
)
from sb_espnet_vq.testing.registry import contract_check


@contract_check
def output_shapes(name, options):
    """Outputs have the shapes and dtypes of the contract, in training and eval."""
    q = make(name, options)
    for size in ("dim", "codebook_size", "n_codebooks"):
        value = getattr(q, size)
        assert type(value) is int and value > 0, f"{size} is {value!r}"
    for training in (True, False):
        _check_output(q, run(q, training, frames(q, 2, 30)), (2, 30))


@contract_check
def leading_shapes(name, options):
    """Input of any leading shape gives the results of its frames in a flat batch."""
    q = make_started(name, options).eval()
    x = frames(q, 2, 3, 4)
    flat = q(x.reshape(24, q.dim))
    shapes: list[tuple[int, ...]] = [(2, 3, 4), (6, 4), (1, 24), (24,)]
    for lead in shapes:
        out = q(x.reshape(*lead, q.dim))
        _check_output(q, out, lead)
        same(out.codes.reshape(24, -1), flat.codes, f"codes of shape {lead}")
        same(q.decode(out.codes), out.quantized, f"decoded codes of shape {lead}")
    single = q(x[0, 0, 0])
    _check_output(q, single, ())
    same(single.codes, flat.codes[0], "codes of a single frame")
    shapes = [(6, 4), (24,), ()]
    for lead in shapes:
        out = train(q, x.flatten(0, 2)[: math.prod(lead)].reshape(*lead, q.dim))
        _check_output(q, out, lead)


@contract_check
def strided_input(name, options):
    """A transposed view gives the same results as a contiguous copy."""
    q = make_started(name, options).eval()
    x = frames(q, 2, 20).transpose(1, 2).contiguous().transpose(1, 2)
    same_output(q(x), q(x.contiguous()), "a strided view")


@contract_check
def decode_equals_quantized(name, options):
    """decode(encode(x)) equals quantized in eval, bit for bit, also with a mask."""
    q = make_started(name, options).eval()
    # x requires a gradient, since a gradient estimator might round.
    x, mask = frames(q, 3, 40).requires_grad_(), some_mask(3, 40)
    for labels in (None, labels_for(q, 3)):
        for given in (None, mask):
            out = q(x, mask=given, labels=labels)
            codes = q.encode(x, mask=given, labels=labels)
            same(codes, out.codes, "codes of encode and of forward")
            same(q.decode(codes), out.quantized, "decode(encode(x))")


@contract_check
def decode_before_training(name, options):
    """In an untrained module, too, decode(encode(x)) equals quantized."""
    q = make(name, options).eval()
    out = q(frames(q, 2, 30))
    same(q.decode(q.encode(frames(q, 2, 30))), out.quantized, "decode(encode(x))")
    assert bool(out.quantized.isfinite().all()), "quantized is not finite"
    assert bool((out.quantized != 0).any()), "quantized is zero throughout"


@contract_check
def fewer_codebooks(name, options):
    """The codes of the first k codebooks decode as if the other codes were -1."""
    q = make_started(name, options).eval()
    codes = q.encode(frames(q, 2, 20))
    for k in range(1, q.n_codebooks + 1):
        rest = torch.full_like(codes[..., k:], -1)
        missing = torch.cat([codes[..., :k], rest], -1)
        same(q.decode(codes[..., :k]), q.decode(missing), f"{k} codebooks")


@contract_check
def missing_codes(name, options):
    """In decode, a code of -1 contributes 0."""
    q = make_started(name, options).eval()
    codes = q.encode(frames(q, 2, 20))
    whole = q.decode(codes)
    codes[0, 3] = -1
    part = q.decode(codes)
    same(part[0, 3], torch.zeros(q.dim), "the decoded value of a frame of -1")
    same(part[1], whole[1], "other frames")
    none = q.decode(torch.full_like(codes, -1))
    same(none, torch.zeros(2, 20, q.dim), "the decoded value of codes that are all -1")


@contract_check
def integer_codes(name, options):
    """decode accepts codes of any integer dtype with sufficient range, unsigned too."""
    q = make_started(name, options).eval()
    codes = q.encode(frames(q, 2, 20))
    codes[0, :3] = -1
    expected = q.decode(codes)
    for dtype in INTEGERS:
        if q.codebook_size <= torch.iinfo(dtype).max:
            same(q.decode(codes.to(dtype)), expected, f"{dtype} codes")


@contract_check
def loss_and_stats(name, options):
    """The loss is finite and has a graph; stats contain each of its terms, detached."""
    q = make(name, options)
    for training in (True, False):
        x = frames(q, 3, 40).requires_grad_()
        out = run(q, training, x)
        assert bool(out.loss.isfinite()), f"loss is {out.loss.item()}"
        assert out.loss.requires_grad, "loss has no graph although x needs a gradient"
        out.loss.backward()
        known = {"perplexity", "used_codes", *q.loss_weights}
        assert out.stats.keys() <= known, f"stats are {sorted(out.stats)}"
        total = sum(
            weight * out.stats[term].item()
            for term, weight in q.loss_weights.items()
            if term in out.stats
        )
        assert math.isclose(out.loss.item(), total, rel_tol=1e-4, abs_tol=1e-6), (
            f"loss is {out.loss.item()}, its terms times their weights are {total}"
        )
        perplexity = out.stats["perplexity"].item()
        used = out.stats["used_codes"].item()
        assert 1 <= perplexity <= used * 1.0001 <= q.codebook_size * 1.0001, (
            f"perplexity {perplexity}, used_codes {used} of {q.codebook_size}"
        )


@contract_check
def usage_is_that_of_the_codes(name, options):
    """perplexity and used_codes are those of the returned codes of valid frames."""
    q = make_started(name, options)
    x, mask = frames(q, 3, 40), some_mask(3, 40)
    for training in (True, False):
        out = run(q, training, x, mask=mask)
        perplexities, used = [], []
        for column in out.codes[mask].unbind(1):
            counts = column[column >= 0].unique(return_counts=True)[1].double()
            probs = counts / counts.sum()
            perplexities.append(probs.pow(-probs).prod().item() if len(probs) else 0.0)
            used.append(len(counts))
        for key, values in (("perplexity", perplexities), ("used_codes", used)):
            expected, got = sum(values) / len(values), out.stats[key].item()
            assert math.isclose(got, expected, rel_tol=1e-4), (
                f"{key} is {got}, that of the codes is {expected}"
            )


@contract_check
def gradient_reaches_input(name, options):
    """Every valid frame gets a finite gradient from its quantized value."""
    q = make_started(name, options)
    for training in (True, False):
        x = frames(q, 3, 40).requires_grad_()
        out = run(q, training, x)
        grad = gradients(q, x, out)
        for key, value in grad.items():
            assert bool(value.isfinite().all()), f"the gradient of {key} is not finite"
        # A quantizer that samples codes may have no gradient in eval.
        if training or not q.draws_codes:
            assert "x" in grad, "no gradient reaches x"
            dead = int((grad["x"] == 0).all(-1).sum())
            assert dead == 0, f"{dead} of 120 frames get no gradient"


@contract_check
def updates_after_lookup(name, options):
    """Training finds codes before the update: the previous codebook decodes them."""
    q = make_started(name, options)
    before = make(name, options, 5)
    before.load_state_dict(q.state_dict())
    x = frames(q, 3, 40).requires_grad_()
    out = train(q, x, labels=labels_for(q, 3))
    if q.adds_noise:
        if not q.draws_codes:
            same(before.eval().encode(x), out.codes, "training codes")
        return
    same(before.eval().decode(out.codes), out.quantized, "decoded training codes")


@contract_check
def training_codes(name, options):
    """Training returns the same codes as encode, unless it samples codes."""
    q = make_started(name, options)
    if q.draws_codes:
        return
    x = frames(q, 3, 40)
    expected = q.encode(x)
    out = train(q, x)
    same(out.codes, expected, "codes in training")


def _check_output(q, out, lead):
    expected = {
        "quantized": (torch.float32, (*lead, q.dim)),
        "codes": (torch.int64, (*lead, q.n_codebooks)),
        "loss": (torch.float32, ()),
    }
    assert out._fields == ("quantized", "codes", "loss", "stats"), (
        f"output has the fields {out._fields}"
    )
    for field, kind in expected.items():
        value = getattr(out, field)
        got = (value.dtype, tuple(value.shape))
        assert got == kind, f"{field} is {got}, expected {kind}"
    low, high = int(out.codes.min()), int(out.codes.max())
    lowest = -1 if q.training and q.draws_codes else 0
    assert lowest <= low and high < q.codebook_size, (
        f"codes lie in [{low}, {high}], expected [0, {q.codebook_size})"
    )
    assert {"perplexity", "used_codes"} <= out.stats.keys(), (
        f"stats are {sorted(out.stats)}"
    )
    for key, value in out.stats.items():
        fine = value.shape == () and not value.requires_grad and value.isfinite()
        assert bool(fine), f"stats[{key!r}] is {value!r}, not a detached finite scalar"
