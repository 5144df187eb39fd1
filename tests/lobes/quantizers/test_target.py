"""`TargetQuantizer`."""

import pytest
import torch
from uses import batch, load, tensors

from sb_espnet_vq import ConfigError, list_quantizers
from sb_espnet_vq.lobes.quantizers import TargetQuantizer
from sb_espnet_vq.nnet.quantisers import RandomProjectionQuantizer


@pytest.mark.parametrize("training", [True, False])
def test_default_gives_the_drop_ins_labels(training):
    torch.manual_seed(7)
    dropin = RandomProjectionQuantizer(8, 4, 16).train(training)
    adapter = load("target", seed=7).train(training)
    x = batch()
    x[1, 3] = torch.nan
    assert torch.equal(adapter(x), dropin(x))
    assert adapter(x)[1, 3] == 0
    table = adapter.quantizer.state_dict()
    assert all(torch.equal(table[k], v) for k, v in dropin.state_dict().items())


@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_labels_are_codes_of_the_first_codebook(quantizer_name):
    adapter, x = load("target", quantizer_name).train(), batch()
    labels = adapter(x)
    assert labels.shape == x.shape[:2] and labels.dtype == torch.int64
    adapter.eval()
    assert torch.equal(adapter(x), adapter.quantizer.encode(x)[..., 0])


@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_padding_and_frames_that_are_not_finite_get_label_zero(quantizer_name):
    adapter, x = load("target", quantizer_name).eval(), batch()
    mask = torch.ones(4, 40, dtype=torch.bool)
    mask[2, 30:] = False
    expected = adapter(x)
    x[0, 5], x[1, 6] = torch.nan, torch.inf
    labels = adapter(x, mask=mask)
    assert not mask[2, 30:].any() and (labels[2, 30:] == 0).all()
    assert labels[0, 5] == 0 and labels[1, 6] == 0
    real = mask & x.isfinite().all(-1)
    assert torch.equal(labels[real], expected[real])


@pytest.mark.parametrize("quantizer_name", ["vq", "rvq"])
def test_averages_are_updated_in_training_only(quantizer_name):
    adapter = load("target", quantizer_name).eval()
    before = dict(tensors(adapter))
    adapter(batch())
    assert all(torch.equal(v, before[k]) for k, v in tensors(adapter))
    adapter.train()(batch())
    assert any(not torch.equal(v, before[k]) for k, v in tensors(adapter))


@pytest.mark.parametrize("conf", ["", "{n_codebooks: 3, quantizer_dropout: true}"])
def test_labels_in_training_follow_the_frames_alone(conf):
    # Gumbel noise, or dropped levels, must not reach labels.
    adapter = load("target", "rvq" if conf else "gumbel", conf).train()
    labels = adapter(batch())
    assert torch.equal(labels, adapter.quantizer.eval().encode(batch())[..., 0])


@pytest.mark.parametrize("quantizer_name", ["random_projection", "rvq", "gumbel"])
def test_several_codebooks_give_as_many_labels(quantizer_name):
    adapter = TargetQuantizer(8, 4, 16, quantizer=quantizer_name, n_codebooks=3)
    x, mask = batch(), torch.ones(4, 40, dtype=torch.bool)
    mask[2, 30:] = False
    adapter(x)  # moves averages
    labels = adapter.eval()(x, mask=mask)
    assert labels.shape == (4, 40, 3) and not labels[2, 30:].any()
    codes = adapter.quantizer.encode(x)
    assert torch.equal(labels[mask], codes[mask])
    assert not torch.equal(codes[..., 0], codes[..., 1])


def test_more_labels_than_codebooks_are_refused():
    with pytest.raises(ConfigError, match="n_codebooks is 2, but the quantizer 'vq'"):
        TargetQuantizer(8, 4, 16, quantizer="vq", n_codebooks=2)
    conf = {"n_codebooks": 3}
    fewer = TargetQuantizer(8, 4, 16, n_codebooks=2, quantizer_conf=conf)
    assert fewer(batch()).shape == (4, 40, 2)


def test_code_dim_is_mapped_where_a_quantizer_has_it_and_conf_wins():
    assert load("target").quantizer.P.shape == (8, 4)
    assert load("target", "rvq").quantizer.layers[0]._codebook.embed.shape == (16, 4)
    conf = "{code_dim: 5, codebook_size: 9}"
    assert load("target", "random_projection", conf).quantizer.CB.shape == (9, 5)
    assert load("target", "vq").quantizer.codebook_size == 16


def test_unused_outputs_are_not_computed():
    adapter = load("target", "bsq")
    assert not adapter.quantizer.gives_probabilities
    assert "entropy" not in adapter.quantizer(batch()).stats
    for quantizer_name in ("gumbel", "rvq"):
        assert load("target", quantizer_name).quantizer.n_codebooks == 1
    many_bits = TargetQuantizer(40, 16, 2**40, quantizer="bsq")
    assert many_bits.train()(torch.randn(2, 3, 40)).max() >= 2**20
