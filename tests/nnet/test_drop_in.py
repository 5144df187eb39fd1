"""Drop-in classes hold a quantizer: one implementation, under upstream's names."""

import pytest
import torch
from torch import nn

from sb_espnet_vq.gan_codec.shared.quantizer.residual_vq import ResidualVectorQuantizer
from sb_espnet_vq.lobes.models.bsq import BinarySphericalQuantizer
from sb_espnet_vq.lobes.models.PIQ import VQEmbedding
from sb_espnet_vq.nnet.quantisers import (
    GumbelVectorQuantizer,
    RandomProjectionQuantizer,
    VectorQuantizer,
)
from sb_espnet_vq.quantizers.base import Quantizer


def build(kind, *arguments, seed=0):
    torch.manual_seed(seed)
    return kind(*arguments)


GUMBEL = GumbelVectorQuantizer, 8, 5, (2.0, 0.5, 0.9), 2, 6
PROJECTION = RandomProjectionQuantizer, 8, 4, 16
ENTROPY = VectorQuantizer, 12, 8
PIQ = VQEmbedding, 20, 8, 2
DROP_INS = [
    GUMBEL,
    PROJECTION,
    ENTROPY,
    PIQ,
    (BinarySphericalQuantizer, 8),
    (ResidualVectorQuantizer, 8, 8, 2, 16),
]


@pytest.mark.parametrize("given", DROP_INS, ids=lambda given: given[0].__name__)
def test_a_drop_in_holds_a_quantizer_and_is_none(given):
    module = build(*given)
    held = [each for each in module.children() if isinstance(each, Quantizer)]
    assert len(held) == 1 and not isinstance(module, Quantizer)


def call(module, x):
    """Return outputs that depend on all tensors of a drop-in."""
    if isinstance(module, VQEmbedding):
        return module.straight_through(x.movedim(-1, 1), torch.tensor([0, 1]))[1]
    out = module.eval()(x)
    if isinstance(out, dict):
        return out["x"]
    return out if torch.is_tensor(out) else out[0]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (PROJECTION, ["P", "CB"]),
        (GUMBEL, ["vars", "weight_proj"]),
        (ENTROPY, ["codebook"]),
        (PIQ, ["embedding"]),
    ],
)
def test_what_is_assigned_is_used(given, names):
    """A user may replace the tensors and layers of upstream's class."""
    module, other = build(*given), build(*given, seed=1)
    x = torch.randn(2, 30, 8)
    assert not torch.equal(call(module, x), call(other, x))
    for name in names:
        setattr(module, name, getattr(other, name))
    assert torch.equal(call(module, x), call(other, x))
    assert module.state_dict().keys() == other.state_dict().keys()
    count = len(list(other.parameters()))
    assert len(list(module.parameters())) == count


def test_the_temperature_can_be_set():
    module = build(*GUMBEL)
    module.curr_temp = 0.7
    assert module(torch.randn(1, 3, 8))["temp"] == 0.7
    assert module.quantizer.temperature() == 0.7


@pytest.mark.parametrize("given", [GUMBEL, ENTROPY, PIQ], ids=lambda g: g[0].__name__)
def test_freezing_reaches_the_quantizer(given):
    module = build(*given).requires_grad_(False)
    assert module.quantizer.frozen
    assert not any(p.requires_grad for p in module.parameters())


def test_a_dictionary_on_the_meta_device_gets_its_storage_once():
    with torch.device("meta"):
        module = VQEmbedding(20, 8, 2)
    module.to_empty(device="cpu")
    module.load_state_dict(VQEmbedding(20, 8, 2).state_dict())
    names = [name for name, _ in module.named_parameters()]
    assert names == ["embedding.weight"]
    assert isinstance(module.embedding, nn.Embedding)
    assert module.embedding is module.quantizer.embedding
