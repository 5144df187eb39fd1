"""Every registered family in every role, from YAML."""

import copy
import io
import pickle

import pytest
import torch
from uses import ROLES, answer, batch, load, tensors, train

from sb_espnet_vq import ConfigError, list_quantizers
from sb_espnet_vq.lobes import quantizers

CELLS = [(r, f) for r in ROLES for f in list_quantizers()]
every_cell = pytest.mark.parametrize(("role", "family"), CELLS)


def trained(role, family):
    module = load(role, family)
    train(role, module, 2)
    return module.eval()


def same(given, expected):
    assert len(given) == len(expected)
    for mine, theirs in zip(given, expected, strict=True):
        assert torch.equal(mine, theirs)


@every_cell
def test_training_lowers_the_loss(role, family):
    losses = train(role, load(role, family), 40)
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4]), losses


@every_cell
def test_gradient_reaches_the_input(role, family):
    module, x = load(role, family).train(), batch().requires_grad_()
    out = answer(role, module, x)[0]
    if role == "target":
        assert not out.requires_grad
        assert not any(p.requires_grad for p in module.parameters())
        return
    out.square().sum().backward()
    assert bool(x.grad.isfinite().all()) and float(x.grad.abs().sum()) > 0


# As targets, nothing is trained by gradient.
@pytest.mark.parametrize(("role", "family"), [c for c in CELLS if c[0] != "target"])
def test_every_parameter_is_trained(role, family):
    # DDP stops at the second step where one is not.
    module, x = load(role, family).train(), batch().requires_grad_()
    answers = [out for out in answer(role, module, x) if out.requires_grad]
    sum(out.square().mean() for out in answers).backward()
    for name, parameter in module.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name


@every_cell
def test_checkpoint_brings_everything_back(role, family):
    module, fresh = trained(role, family), load(role, family, seed=1).eval()
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    same(answer(role, fresh, batch()), answer(role, module, batch()))


@every_cell
def test_copies_give_the_same(role, family):
    module = trained(role, family)
    expected = answer(role, module, batch())
    restored = pickle.loads(pickle.dumps(module))  # noqa: S301
    same(answer(role, restored, batch()), expected)
    same(answer(role, copy.deepcopy(module), batch()), expected)


@every_cell
def test_eval_is_deterministic_and_changes_nothing(role, family):
    module = trained(role, family)
    before = dict(tensors(module))
    first = answer(role, module, batch())
    same(answer(role, module, batch()), first)
    for name, value in tensors(module):
        assert torch.equal(value, before[name]), name


# Sizes of SpeechBrain's own configurations.
STOCK = {
    "target": (quantizers.TargetQuantizer, (320, 16, 8192)),
    "contrastive": (
        quantizers.ContrastiveQuantizer,
        (512, 320, (2.0, 0.25, 0.999995), 2, 256),
    ),
    "bottleneck": (quantizers.BottleneckQuantizer, (13,)),
    "dictionary": (quantizers.DictionaryQuantizer, (1024, 256, 50)),
}


@every_cell
def test_every_family_has_the_sizes_of_speechbrains_recipes(role, family):
    adapter, sizes = STOCK[role]
    if role != "contrastive" or family not in ("bsq", "lfq"):
        adapter(*sizes, quantizer=family)
        return
    with pytest.raises(ConfigError, match="got 320; add .*=256 or .*_size=512 to"):
        adapter(*sizes, quantizer=family)
    conf = {"codebook_size": 512}
    assert adapter(*sizes, quantizer=family, quantizer_conf=conf)


@pytest.mark.parametrize(
    ("role", "family", "conf", "reason"),
    [
        ("target", "vqq", "", "unknown quantizer 'vqq'"),
        ("target", "vq", "{dim: 4}", "frames here are 8 wide"),
        ("contrastive", "vq", "{temperatur: 1}", "'vq' has no option 'temperatur'"),
        ("contrastive", "gumbel", "{temperatur: 1}", "did you mean 'temperature'"),
        ("contrastive", "bsq", "{codebook_size: 320}", "power of two"),
        ("contrastive", "gumbel", "{n_codebooks: 4}", "multiple of groups"),
        ("bottleneck", "vq", "[codebook_size]", "must be a mapping"),
        ("bottleneck", "bsq", "{codebook_size: 100}", "power of two"),
        ("dictionary", "class_partitioned", "{num_classes: 40}", "would have none"),
        ("dictionary", "bsq", "{codebook_size: 33}", "power of two"),
    ],
)
def test_what_makes_no_sense_is_refused(role, family, conf, reason):
    with pytest.raises(ValueError, match=reason):
        load(role, family, conf)
