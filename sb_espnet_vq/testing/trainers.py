"""Checks of wrapping, copying, casting and freezing a module, as trainers do."""

import copy
from typing import cast

import torch
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from sb_espnet_vq.quantizers.base import Quantizer, QuantizerOutput
from sb_espnet_vq.testing.helpers import (
    close,
    frames,
    labels_for,
    make,
    make_started,
    normal,
    same,
    same_output,
    same_state,
    same_tensors,
    some_mask,
    state_of,
    train,
)
from sb_espnet_vq.testing.registry import contract_check


@contract_check
def checkpointed_step(name, options):
    """Activation checkpointing changes neither buffer updates nor gradients."""
    for fresh in (True, False):
        plain = make(name, options) if fresh else make_started(name, options)
        for reentrant in (True, False):
            q = copy.deepcopy(plain)
            expected, got = _step(copy.deepcopy(plain)), _step(q, reentrant)
            what = f"checkpointing, use_reentrant={reentrant}, fresh={fresh}"
            _same_step(got, expected, what)


@contract_check
def several_forwards_checkpointed(name, options):
    """Several checkpointed forwards before one backward give the plain gradients."""
    results = []
    for reentrant in (None, False):
        q = make_started(name, options).train()
        losses, inputs = [], []
        for number in range(10):
            # Odd batches have the frames of the previous one in reverse order, the last
            # in the same order.
            x = frames(q, 3, 40, seed=20 + number // 2)
            x = (x.flip(1) if number % 2 and number < 9 else x).requires_grad_()
            torch.manual_seed(number)
            losses.append(_objective(_call(q, x, reentrant), number))
            inputs.append(x)
            with torch.no_grad():
                q(frames(q, 3, 40, seed=90 + number))
        for number in (1, 2, 0):  # trainers may use any order
            losses[number].backward()
        torch.stack(losses[3:]).sum().backward()
        x_grads = {number: x.grad for number, x in enumerate(inputs)}
        results.append((x_grads, _grads(q), state_of(q)))
    (x_grads, grads, state), (x_grads0, grads0, state0) = results[1], results[0]
    same_tensors(x_grads, x_grads0, "gradient of x of a checkpointed forward")
    same_tensors(grads, grads0, "gradients of checkpointed forwards")
    same_tensors(state, state0, "state after checkpointed forwards")


@contract_check
def accumulated_gradients(name, options):
    """Accumulated gradients are equal with one backward or one per forward."""
    results = []
    for together in (True, False):
        q = make_started(name, options).train()
        losses = []
        for number in range(3):
            torch.manual_seed(number)
            x = frames(q, 3, 40, seed=20 + number).requires_grad_()
            losses.append(_objective(_call(q, x, None), number))
            if not together:
                losses[-1].backward()
        if together:
            torch.stack(losses).sum().backward()
        results.append((_grads(q), state_of(q)))
    (grads, state), (grads0, state0) = results
    assert grads.keys() == grads0.keys(), "other parameters have gradients"
    for key, grad in grads0.items():
        close(grads[key], grad, f"gradient of {key}, three forwards before backward")
    same_tensors(state, state0, "state after three forwards before backward")


@contract_check
def buffers_written_in_place(name, options):
    """A module whose tensors are overwritten in place behaves like their source."""
    q, other = make_started(name, options), make(name, options, seed=9)
    other.train()
    with torch.no_grad():
        for mine, theirs in zip(_tensors(other), _tensors(q), strict=True):
            mine.copy_(theirs)
    x = frames(q, 3, 40)
    same_output(train(other, x), train(q, x), "a step after buffers were written")
    same_state(other, state_of(q), "after buffers were written in place")


@contract_check
def averaged_copy(name, options):
    """A weight average of the module encodes, and training does not reinitialize it."""
    q = make(name, options)
    average = AveragedModel(q, avg_fn=_average, use_buffers=True)
    for step in range(3):
        train(q, frames(q, 3, 40, seed=30 + step))
        average.update_parameters(q)
    teacher, loaded = cast(Quantizer, average.module), make(name, options, seed=9)
    loaded.load_state_dict(teacher.state_dict())
    x = frames(q, 3, 40)
    same_output(teacher.eval()(x), loaded.eval()(x), "an average in eval")
    same_output(train(teacher, x), train(loaded, x), "a training step of an average")
    same_state(teacher, state_of(loaded), "an average after a training step")


@contract_check
def functional_step(name, options):
    """functional_call changes the given tensors, not those of the module."""
    for fresh in (True, False):
        q = make(name, options) if fresh else make_started(name, options)
        # A module with another state, which must not affect the result.
        shell = make_started(name, options, seed=9) if fresh else make(name, options)
        before, given = state_of(shell), state_of(q)
        x = frames(q, 3, 40)
        shell.train()
        torch.manual_seed(2)
        out = functional_call(shell, given, (x,))
        same_output(out, train(q, x), "functional_call")
        same_state(shell, before, "functional_call, the module's own tensors")
        for key, value in state_of(q).items():
            close(given[key], value, f"functional_call, {key}", atol=0)


@contract_check
def half_precision_module(name, options):
    """A half-precision module trains like a float32 one with the same parameters."""
    for dtype in (torch.bfloat16, torch.float16):
        for fresh in (True, False):
            make_one = make if fresh else make_started
            wide, narrow = make_one(name, options), make_one(name, options).to(dtype)
            with torch.no_grad():
                for mine, theirs in zip(
                    wide.parameters(), narrow.parameters(), strict=True
                ):
                    mine.copy_(theirs)
            for step in range(3):
                x = frames(wide, 3, 40, seed=40 + step).to(dtype)
                out, expected = train(narrow, x), train(wide, x.float())
                what = f"a {dtype} module in step {step}"
                same(out.codes, expected.codes, f"{what}, codes")
                same(out.loss, expected.loss, f"{what}, loss")
                for key, buffer in wide.named_buffers():
                    same(narrow.get_buffer(key), buffer, f"{what}, {key}")


@contract_check
def frozen(name, options):
    """A frozen quantizer, or one in eval, does not change; x gets gradients."""
    for fresh in (True, False):
        q = make(name, options) if fresh else make_started(name, options)
        parent = torch.nn.ModuleList([q]).train()
        before = state_of(q)
        q.requires_grad_(False)
        for seed in (2, 3):
            x = frames(q, 3, 40, seed=seed).requires_grad_()
            out = train(q, x, seed, mask=some_mask(3, 40), labels=labels_for(q, 3))
            (out.loss + out.quantized.square().sum()).backward()
            assert x.grad is not None, "a frozen quantizer passes no gradient to x"
            left = [key for key, p in q.named_parameters() if p.grad is not None]
            assert not left, f"frozen, but {left} get gradients"
            same_state(q, before, "a frozen quantizer in training")
        parent.train()
        q.eval()(frames(q, 3, 40))
        same_state(q, before, "a quantizer in eval inside a training parent")
        q.requires_grad_(True).train()
        other = make(name, options) if fresh else make_started(name, options)
        x = frames(q, 3, 40)
        same_output(train(q, x), train(other, x), "a step after it was frozen")
        same_state(q, state_of(other), "after it was frozen")


def _call(q, x, reentrant):
    given = {"mask": some_mask(3, 40), "labels": labels_for(q, 3)}
    if reentrant is None:
        return q(x, **given)
    # Reentrant checkpointing returns a plain tuple.
    return QuantizerOutput(
        *checkpoint(lambda x: tuple(q(x, **given)), x, use_reentrant=reentrant)
    )


def _step(q, reentrant=None):
    """Return output, gradients and state of a step with a checkpoint or without."""
    q.train()
    torch.manual_seed(4)
    x = frames(q, 3, 40).requires_grad_()
    out = _call(q, x, reentrant)
    _objective(out, 5).backward()
    return out, {"x": x.grad, **_grads(q)}, state_of(q)


def _objective(out, seed):
    weight = normal(*out.quantized.shape, seed=seed)
    return out.loss + (out.quantized * weight).sum()


def _grads(q):
    return {k: p.grad for k, p in q.named_parameters() if p.grad is not None}


def _same_step(got, expected, what):
    (out, grads, state), (out0, grads0, state0) = got, expected
    same_output(out, out0, what)
    same_tensors(grads, grads0, f"{what}, gradient")
    same_tensors(state, state0, f"{what}, state")


def _average(average, new, _):
    return torch.lerp(average, new, 0.5) if average.is_floating_point() else new


def _tensors(q):
    return [*q.parameters(), *q.buffers()]
