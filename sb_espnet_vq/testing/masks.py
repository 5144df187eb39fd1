"""Checks of padding, non-finite frames and empty batches."""

import torch

from sb_espnet_vq.testing.helpers import (
    frames,
    gradients,
    labels_for,
    make,
    make_started,
    run,
    same,
    same_output,
    same_state,
    same_tensors,
    some_mask,
    state_of,
)
from sb_espnet_vq.testing.registry import contract_check

_GARBAGE = (1.0, 3e38, float("nan"), float("inf"), -float("inf"))


@contract_check
def padding_changes_nothing(name, options):
    """Values at padding affect no output, loss, buffer or gradient."""
    mask = some_mask(3, 40)
    for training in (True, False):
        for fresh in (True, False):
            results = []
            for garbage in (0.0, *_GARBAGE):
                q = make(name, options) if fresh else make_started(name, options)
                x = frames(q, 3, 40).masked_fill(~mask[..., None], garbage)
                x.requires_grad_()
                out = run(q, training, x, mask=mask, labels=labels_for(q, 3))
                results.append((out, gradients(q, x, out), state_of(q), garbage))
            for out, grads, state, garbage in results[1:]:
                what = f"{garbage} under the mask, training={training}"
                same_output(out, results[0][0], what)
                same_tensors(grads, results[0][1], f"{what}, gradient")
                same_tensors(state, results[0][2], f"{what}, state")


@contract_check
def masked_frames(name, options):
    """At padding, quantized is 0 without gradient, and codes are -1."""
    mask = some_mask(3, 40)
    q = make_started(name, options)
    for training in (True, False):
        x = frames(q, 3, 40).requires_grad_()
        out = run(q, training, x, mask=mask)
        hidden = ~mask
        same(out.quantized[hidden], torch.zeros_like(x[hidden]), "masked quantized")
        same(out.codes[hidden], torch.full_like(out.codes[hidden], -1), "masked codes")
        first = out.codes[mask][:, 0]
        assert bool((first >= 0).all()), "a valid frame has a first code of -1"
        grad = gradients(q, x, out).get("x", torch.zeros_like(x))
        same(grad[hidden], torch.zeros_like(grad[hidden]), "gradient where masked")
        codes = q.encode(x, mask=mask)
        same(codes[hidden], torch.full_like(codes[hidden], -1), "masked encode")


@contract_check
def all_true_mask(name, options):
    """A mask of True everywhere gives the same results as no mask, bit for bit."""
    mask = torch.ones(3, 40, dtype=torch.bool)
    for training in (True, False):
        results = []
        for given in (mask, None):
            q = make(name, options)
            x = frames(q, 3, 40).requires_grad_()
            out = run(q, training, x, mask=given)
            results.append((out, gradients(q, x, out), state_of(q)))
        (out, grads, state), (out0, grads0, state0) = results
        same_output(out, out0, f"an all-True mask, training={training}")
        same_tensors(grads, grads0, "an all-True mask, gradient")
        same_tensors(state, state0, "an all-True mask, state")


@contract_check
def padding_is_no_frame(name, options):
    """A padded batch has the same loss and statistics as its valid frames alone."""
    mask = some_mask(3, 40)
    q = make_started(name, options).eval()
    x = frames(q, 3, 40)
    padded, alone = q(x, mask=mask), q(x[mask])
    same(padded.codes[mask], alone.codes, "codes of valid frames")
    for key in alone.stats:
        _near(padded.stats[key], alone.stats[key], f"stats[{key!r}] with padding")
    _near(padded.loss, alone.loss, "loss with padding")


@contract_check
def not_finite_frames(name, options):
    """A non-finite frame gives NaN, code -1 and a NaN loss; all else is unaffected."""
    for training in (True, False):
        for value in (float("nan"), float("inf"), -float("inf")):
            what = f"a frame with {value}, training={training}"
            bad, hidden = make_started(name, options), make_started(name, options)
            x = frames(bad, 3, 40)
            x[1, 7, 0] = x[2, 0] = value
            good = torch.ones(3, 40, dtype=torch.bool)
            good[1, 7] = good[2, 0] = False
            out = run(bad, training, x)
            expected = run(hidden, training, x, mask=good)
            assert bool(out.quantized[~good].isnan().all()), f"{what}: output not NaN"
            assert bool(out.loss.isnan()), f"{what}: loss is {out.loss.item()}"
            same(out.codes, expected.codes, f"{what}, codes")
            same(bad.encode(x)[~good], expected.codes[~good], f"{what}, encode")
            same(out.quantized[good], expected.quantized[good], f"{what}, the others")
            same_state(bad, state_of(hidden), what)


@contract_check
def not_finite_first_batch(name, options):
    """A non-finite frame in the first batch does not affect the initialization."""
    bad, hidden = make(name, options), make(name, options)
    x = frames(bad, 3, 40)
    x[0, 0] = float("nan")
    mask = torch.ones(3, 40, dtype=torch.bool)
    mask[0, 0] = False
    run(bad, True, x)
    run(hidden, True, x, mask=mask)
    same_state(bad, state_of(hidden), "a NaN frame in the first batch")


@contract_check
def only_not_finite_frames(name, options):
    """A batch without finite frames gives a NaN loss and changes no buffer."""
    for q in (make(name, options), make_started(name, options)):
        before = state_of(q)
        out = run(q, True, torch.full((2, 5, q.dim), float("nan")))
        assert bool(out.loss.isnan()), f"loss is {out.loss.item()}, expected NaN"
        assert bool((out.codes == -1).all()), "a code is not -1"
        same_state(q, before, "a batch of NaN")


@contract_check
def nothing_to_quantize(name, options):
    """Batches without valid frames have zero loss and change no buffer."""
    for fresh in (True, False):
        q = make(name, options) if fresh else make_started(name, options)
        before = state_of(q)
        for training in (True, False):
            for lead in ((2, 0), (0, 5), (0, 0), (0,), (2, 5)):
                mask = torch.zeros(lead, dtype=torch.bool)
                labels = labels_for(q, lead[0]) if len(lead) > 1 else None
                x = frames(q, *lead).requires_grad_()
                what = f"no frame, shape {lead}, training={training}"
                for given in (mask,) if mask.numel() else (mask, None):
                    out = run(q, training, x, mask=given, labels=labels)
                    _empty_output(q, x, out, what)
                    same_state(q, before, what)
                codes = q.encode(x, mask=mask, labels=labels)
                same(codes, out.codes, f"{what}, encode")
                same(q.decode(codes), out.quantized.detach(), f"{what}, decode")


def _empty_output(q, x, out, what):
    assert out.loss.item() == 0, f"{what}: loss is {out.loss.item()}, expected 0"
    same(out.quantized, torch.zeros_like(x), f"{what}, quantized")
    expected = torch.full((*x.shape[:-1], q.n_codebooks), -1)
    same(out.codes, expected, f"{what}, codes")
    for key, value in out.stats.items():
        assert bool(value.isfinite()), f"{what}: stats[{key!r}] is {value.item()}"
    for key, grad in gradients(q, x, out).items():
        assert bool((grad == 0).all()), f"{what}: {key} gets a gradient"


def _near(got, expected, what):
    assert torch.isclose(got, expected, rtol=1e-4, atol=1e-6), (
        f"{what} is {got.item()}, without it is {expected.item()}"
    )
