"""Checks of eval mode, saving, loading and copying."""

import copy
import io
import pickle

import torch

from sb_espnet_vq.testing.helpers import (
    frames,
    make,
    make_started,
    same,
    same_output,
    same_state,
    some_mask,
    state_of,
    train,
)
from sb_espnet_vq.testing.registry import contract_check


@contract_check
def eval_changes_nothing(name, options):
    """Forward in eval, encode and decode change no buffer."""
    for q in (make(name, options), make_started(name, options)):
        before = state_of(q)
        x, mask = frames(q, 3, 40), some_mask(3, 40)
        q.train()
        q.decode(q.encode(x, mask=mask))
        same_state(q, before, "encode and decode in training mode")
        first, second = q.eval()(x, mask=mask), q(x, mask=mask)
        q.decode(q.encode(x))
        same_output(second, first, "the second of two calls in eval")
        same_state(q, before, "eval")


@contract_check
def training_repeats(name, options):
    """Two training runs with the same seed are equal bit for bit."""
    first, second = make_started(name, options), make_started(name, options)
    same_state(second, state_of(first), "the second run")


@contract_check
def state_dict_round_trip(name, options):
    """A saved state loads strictly into a new module, which then behaves the same."""
    q, other = make_started(name, options), make(name, options, seed=9)
    file = io.BytesIO()
    torch.save(q.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    _same_module(other, q, "a loaded module")


@contract_check
def fresh_state_dict(name, options):
    """A module with the state of an untrained one initializes and trains like it."""
    q, other = make(name, options), make_started(name, options, seed=9)
    other.load_state_dict(q.state_dict(), strict=True)
    _same_module(other, q, "a module with the state of a fresh one")


@contract_check
def built_without_storage(name, options):
    """A module built on the meta device loads a state by assignment."""
    q = make_started(name, options)
    with torch.device("meta"):
        other = make(name, options)
    other.load_state_dict(copy.deepcopy(q.state_dict()), strict=True, assign=True)
    _same_module(other, q, "a module built without storage, then loaded")


@contract_check
def pickle_round_trip(name, options):
    """An unpickled module behaves like the original."""
    for q in (make(name, options), make_started(name, options)):
        # Pickled in the same line, hence safe to load.
        other = pickle.loads(pickle.dumps(q))  # noqa: S301
        _same_module(other, q, "an unpickled module")


@contract_check
def deepcopy_is_independent(name, options):
    """A deep copy behaves like the original and shares no tensor with it."""
    q = make_started(name, options)
    other = copy.deepcopy(q)
    before = state_of(q)
    for parameter in other.parameters():
        parameter.data.add_(1)
    train(other, frames(q, 3, 40))
    same_state(q, before, "training of a copy, in the original")
    _same_module(copy.deepcopy(q), q, "a deep copy")


def _same_module(other, q, what):
    x = frames(q, 3, 40)
    same_state(other, state_of(q), what)
    same_output(other.eval()(x), q.eval()(x), what)
    codes = q.encode(x)
    same(other.decode(codes), q.decode(codes), f"{what}, decode")
    for _ in range(2):
        same_output(train(other, x), train(q, x), f"{what}, training step")
    same_state(other, state_of(q), f"{what}, after training steps")
