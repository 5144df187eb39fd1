"""`DictionaryQuantizer`."""

import pytest
import torch
from uses import LABELS, load, train

from sb_espnet_vq import ShapeError, list_quantizers
from sb_espnet_vq.lobes.models.piq_dictionary import VQEmbedding
from sb_espnet_vq.lobes.quantizers import DictionaryQuantizer


def vectors():
    return torch.randn(4, 8, 5, 7, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("partitioned", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_default_is_the_drop_in(training, partitioned):
    results = []
    for kind in (VQEmbedding, DictionaryQuantizer):
        torch.manual_seed(7)
        module = kind(32, 8, 4, partitioned, 3).train(training)
        z = vectors().requires_grad_()
        value, bar = module.straight_through(z, LABELS.float())
        (value.square().sum() + bar.pow(3).sum()).backward()
        (keys,) = module.parameters()
        results.append((value, bar, module(z, LABELS), z.grad, keys.grad))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_both_outputs_hold_the_same_values(quantizer_name, training):
    module = load("dictionary", quantizer_name).train(training)
    for _ in range(2):
        value, bar = module.straight_through(vectors(), LABELS)
        assert value.shape == bar.shape == (4, 8, 5, 7)
        assert torch.equal(value, bar)
    assert module(vectors(), LABELS).shape == (4, 5, 7)


@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_codes_decode_to_the_values(quantizer_name):
    module = load("dictionary", quantizer_name)
    train("dictionary", module, 1)
    module.eval()
    codes = module(vectors(), LABELS)
    value, _ = module.straight_through(vectors(), LABELS)
    if quantizer_name != "class_partitioned":
        decoded = module.quantizer.decode(codes[..., None])
        assert torch.equal(decoded.movedim(-1, 1), value)
    assert not codes.requires_grad


def test_labels_are_required_where_they_are_used():
    z = vectors()
    for conf in ("", "{commitment_weight: 1.0}"):
        module = load("dictionary", "class_partitioned", conf)
        for call in (module, module.straight_through):
            with pytest.raises(ShapeError, match="needs labels"):
                call(z)
    opened = DictionaryQuantizer(32, 8, 4, activate_class_partitioning=False)
    assert opened(z).shape == (4, 5, 7)
    for quantizer_name in set(list_quantizers()) - {"class_partitioned"}:
        load("dictionary", quantizer_name).straight_through(z)


@pytest.mark.parametrize("conf", [{}, {"codebook_weight": 2.0}])
def test_without_partitioning_classes_need_no_keys_of_their_own(conf):
    opened = DictionaryQuantizer(16, 8, 50, False, 16, quantizer_conf=conf)
    codes = opened(vectors())
    assert len(codes.unique()) > 3
    assert torch.equal(opened(vectors(), LABELS), codes)


def test_quantizer_with_weights_of_its_own_learns_by_them():
    module = load("dictionary", "class_partitioned", "{codebook_weight: 2.0}").train()
    z = vectors().requires_grad_()
    value, bar = module.straight_through(z, LABELS.float())
    codes = module(z, LABELS)
    assert torch.equal(codes // 8, LABELS[:, None, None].expand_as(codes))
    assert not bar.requires_grad
    (value.sum() * 0).backward()
    keys = module.quantizer.embedding.weight
    assert float(keys.grad.abs().sum()) > 0
    with pytest.raises(ValueError, match="integers"):
        module(z, LABELS + 0.5)


@pytest.mark.parametrize("quantizer_name", ["rvq", "vq"])
def test_commitment_is_left_to_the_trainer_unless_conf_asks(quantizer_name):
    for conf, expected in (("", False), ("{commitment_weight: 1.0}", True)):
        z = vectors().requires_grad_()
        value, _ = load("dictionary", quantizer_name, conf).straight_through(z)
        (value.sum() * 0).backward()
        assert bool((z.grad != 0).any()) == expected


def test_second_output_has_the_gradient_of_decode():
    module = load("dictionary", "gumbel").train()
    value, bar = module.straight_through(vectors(), LABELS)
    bar.sum().backward()
    codes = torch.unique(module.quantizer.vars.grad.abs().sum(-1).nonzero())
    assert len(codes) > 0 and module.quantizer.weight_proj.weight.grad is None
    assert value.requires_grad


@pytest.mark.parametrize("quantizer_name", ["vq", "rvq"])
def test_averages_are_updated_in_training_and_not_in_a_search(quantizer_name):
    module = load("dictionary", quantizer_name).train()
    _, bar = module.straight_through(vectors(), LABELS)
    assert not bar.requires_grad
    before = {k: v.clone() for k, v in module.state_dict().items()}
    module(vectors(), LABELS)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    module.straight_through(vectors() + 1, LABELS)
    after = module.state_dict()
    assert any(not torch.equal(v, before[k]) for k, v in after.items())


@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_vectors_that_are_not_finite_give_nan(quantizer_name):
    module, z = load("dictionary", quantizer_name).eval(), vectors()
    z[1, 2, 3, 4] = torch.nan
    value, bar = module.straight_through(z, LABELS)
    bad = torch.zeros(4, 5, 7, dtype=torch.bool)
    bad[1, 3, 4] = True
    for out in (value, bar):
        assert torch.equal(out.isnan().all(1), bad)
        assert torch.equal(out.isnan().any(1), bad)
    assert torch.equal(module(z, LABELS) == -1, bad)


def test_several_codebooks_make_a_last_axis():
    module = load("dictionary", "rvq", "{n_codebooks: 3}")
    assert module(vectors()).shape == (4, 5, 7, 3)


@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_output_has_the_dtype_of_low_precision_frames(quantizer_name):
    module, z = load("dictionary", quantizer_name).eval(), vectors().bfloat16()
    value, bar = module.straight_through(z, LABELS)
    if quantizer_name != "class_partitioned":
        assert value.dtype == bar.dtype == torch.bfloat16
    assert torch.equal(value, bar)
