"""Checkpoints of SpeechBrain's classes and of our adapters are interchangeable."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from uses import LABELS, batch

from sb_espnet_vq.lobes import quantizers as ours

upstream = pytest.importorskip("speechbrain.nnet.quantisers")
piq = pytest.importorskip("speechbrain.lobes.models.PIQ")
bsq = pytest.importorskip("speechbrain.lobes.models.bsq")

# The original, the adapter, the arguments of both, and a call that tells codes.
USES = {
    "target": (
        upstream.RandomProjectionQuantizer,
        ours.TargetQuantizer,
        (8, 4, 16),
        lambda module: module(batch()),
    ),
    "contrastive": (
        upstream.GumbelVectorQuantizer,
        ours.ContrastiveQuantizer,
        (8, 16, (2.0, 0.5, 0.99), 2, 6),
        lambda module: module(batch())["x"],
    ),
    "bottleneck": (
        bsq.BinarySphericalQuantizer,
        ours.BottleneckQuantizer,
        (8,),
        lambda module: module(batch())[1],
    ),
    "dictionary": (
        piq.VQEmbedding,
        ours.DictionaryQuantizer,
        (32, 8, 4),
        lambda module: module.straight_through(
            batch().unflatten(1, (5, -1)).movedim(-1, 1), LABELS
        )[0],
    ),
}
every_use = pytest.mark.parametrize("use", USES)


def build(kind, arguments, seed, **options):
    """Return a model with the module as a submodule, and the module."""
    torch.manual_seed(seed)
    module = kind(*arguments, **options).eval()
    return nn.ModuleDict({"part": module}), module


def same(call, given, expected):
    torch.testing.assert_close(call(given), call(expected))


@every_use
def test_checkpoints_of_the_original_round_trip(use):
    original, adapter, arguments, call = USES[use]
    theirs, source = build(original, arguments, 1)
    mine, module = build(adapter, arguments, 2)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    same(call, module, source)
    again, target = build(original, arguments, 3)
    again.load_state_dict(mine.state_dict(), strict=True)
    same(call, target, source)
    assert list(mine.state_dict()) == list(theirs.state_dict())


@every_use
def test_copies_keep_the_names(use):
    original, adapter, arguments, _ = USES[use]
    names = set(original(*arguments).state_dict())
    module = adapter(*arguments)
    for made in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):  # noqa: S301
        assert set(made.state_dict()) == names
        made.load_state_dict(module.state_dict(), strict=True)


@every_use
def test_names_of_earlier_versions_load(use):
    _, adapter, arguments, call = USES[use]
    mine, source = build(adapter, arguments, 1)
    inner = source.quantizer.state_dict()
    earlier = {f"part.quantizer.{name}": value for name, value in inner.items()}
    if use == "contrastive":
        earlier["part.step"] = torch.tensor(40)
    again, module = build(adapter, arguments, 2)
    again.load_state_dict(earlier, strict=True)
    same(call, module, source)
    if use == "contrastive":
        assert module(batch())["temp"] == pytest.approx(2 * 0.99**40)


@every_use
def test_what_does_not_fit_is_still_named(use):
    _, adapter, arguments, _ = USES[use]
    mine, _ = build(adapter, arguments, 1)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*part\.gone"):
        mine.load_state_dict({**mine.state_dict(), "part.gone": torch.ones(1)})
    if use != "bottleneck":
        with pytest.raises(RuntimeError, match=r"Missing key.*part\."):
            mine.load_state_dict({})


def test_keys_with_losses_of_their_own_have_the_same_names():
    original, adapter, arguments, _ = USES["dictionary"]
    theirs, source = build(original, arguments, 1)
    conf = {"codebook_weight": 2.0}
    mine, module = build(adapter, arguments, 2, quantizer_conf=conf)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    keys = module.quantizer.embedding.weight
    assert torch.equal(keys, source.embedding.weight)
    again, _ = build(original, arguments, 3)
    again.load_state_dict(mine.state_dict(), strict=True)


def test_the_step_of_the_temperature_survives_a_file():
    _, adapter, arguments, _ = USES["contrastive"]
    mine, module = build(adapter, arguments, 1)
    module.update_temp(40)
    file = io.BytesIO()
    torch.save(mine.state_dict(), file)
    file.seek(0)
    again, fresh = build(adapter, arguments, 2)
    again.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert fresh(batch())["temp"] == pytest.approx(2 * 0.99**40)


def test_other_quantizers_keep_their_own_names():
    module = ours.TargetQuantizer(8, 4, 16, quantizer="vq")
    assert all(name.startswith("quantizer.") for name in module.state_dict())
