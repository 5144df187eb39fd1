"""Every registered quantizer for every use, from YAML."""

import copy
import io
import pickle

import pytest
import torch
from uses import USES, answer, batch, load, tensors, train

from sb_espnet_vq import ConfigError, list_quantizers
from sb_espnet_vq.lobes import quantizers

CELLS = [(r, f) for r in USES for f in list_quantizers()]
every_cell = pytest.mark.parametrize(("use", "quantizer_name"), CELLS)


def trained(use, quantizer_name):
    module = load(use, quantizer_name)
    train(use, module, 2)
    return module.eval()


def same(given, expected):
    assert len(given) == len(expected)
    for mine, theirs in zip(given, expected, strict=True):
        assert torch.equal(mine, theirs)


@every_cell
def test_training_lowers_the_loss(use, quantizer_name):
    losses = train(use, load(use, quantizer_name), 40)
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4]), losses


@every_cell
def test_gradient_reaches_the_input(use, quantizer_name):
    module, x = load(use, quantizer_name).train(), batch().requires_grad_()
    out = answer(use, module, x)[0]
    if use == "target":
        assert not out.requires_grad
        assert not any(p.requires_grad for p in module.parameters())
        return
    out.square().sum().backward()
    assert bool(x.grad.isfinite().all()) and float(x.grad.abs().sum()) > 0


# As targets, nothing is trained by gradient.
@pytest.mark.parametrize(
    ("use", "quantizer_name"), [c for c in CELLS if c[0] != "target"]
)
def test_every_parameter_is_trained(use, quantizer_name):
    # DDP stops at the second step where one is not.
    module, x = load(use, quantizer_name).train(), batch().requires_grad_()
    answers = [out for out in answer(use, module, x) if out.requires_grad]
    sum(out.square().mean() for out in answers).backward()
    for name, parameter in module.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name


@every_cell
def test_checkpoint_restores_everything(use, quantizer_name):
    module, fresh = (
        trained(use, quantizer_name),
        load(use, quantizer_name, seed=1).eval(),
    )
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    same(answer(use, fresh, batch()), answer(use, module, batch()))


@every_cell
def test_copies_give_the_same(use, quantizer_name):
    module = trained(use, quantizer_name)
    expected = answer(use, module, batch())
    restored = pickle.loads(pickle.dumps(module))  # noqa: S301
    same(answer(use, restored, batch()), expected)
    same(answer(use, copy.deepcopy(module), batch()), expected)


@every_cell
def test_eval_is_deterministic_and_changes_nothing(use, quantizer_name):
    module = trained(use, quantizer_name)
    before = dict(tensors(module))
    first = answer(use, module, batch())
    same(answer(use, module, batch()), first)
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
def test_every_quantizer_has_the_sizes_of_speechbrains_recipes(use, quantizer_name):
    adapter, sizes = STOCK[use]
    if use != "contrastive" or quantizer_name not in ("bsq", "lfq"):
        adapter(*sizes, quantizer=quantizer_name)
        return
    with pytest.raises(ConfigError, match="got 320; add .*=256 or .*_size=512 to"):
        adapter(*sizes, quantizer=quantizer_name)
    conf = {"codebook_size": 512}
    assert adapter(*sizes, quantizer=quantizer_name, quantizer_conf=conf)


@pytest.mark.parametrize(
    ("use", "quantizer_name", "conf", "reason"),
    [
        ("target", "vqq", "", "unknown quantizer 'vqq'"),
        ("target", "vq", "{dim: 4}", "width of the frames is 8"),
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
def test_invalid_options_are_refused(use, quantizer_name, conf, reason):
    with pytest.raises(ValueError, match=reason):
        load(use, quantizer_name, conf)
