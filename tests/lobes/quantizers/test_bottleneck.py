"""`BottleneckQuantizer`."""

import pytest
import torch
from uses import batch, load

from sb_espnet_vq import ConfigError, list_quantizers
from sb_espnet_vq.lobes.models.bsq import BinarySphericalQuantizer
from sb_espnet_vq.lobes.quantizers import BottleneckQuantizer


@pytest.mark.parametrize("temperature", [(), (3.0,)])
@pytest.mark.parametrize("training", [True, False])
def test_default_is_the_drop_in(training, temperature):
    dropin = BinarySphericalQuantizer(8, 0.3, 0.5).train(training)
    adapter = BottleneckQuantizer(8, 0.3, 0.5).train(training)
    results = []
    for module in (dropin, adapter):
        x = batch().requires_grad_()
        out = module(x, *temperature)
        (out[0].square().sum() + out[2]).backward()
        results.append((*out, x.grad))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_shapes_are_upstreams_for_every_quantizer(quantizer_name):
    module = load("bottleneck", quantizer_name)
    quantized, codes, loss = module(batch(), 100.0)
    assert quantized.shape == (4, 40, 8) and codes.shape == (4, 40)
    # The paper's levels for 2**8 codes are 8, 6 and 5.
    expected = 240 if quantizer_name == "fsq" else 256
    assert loss.shape == () and module.quantizer.codebook_size == expected


def test_several_codebooks_make_a_last_axis():
    module = load("bottleneck", "rvq", "{n_codebooks: 3, codebook_size: 16}").eval()
    quantized, codes, _ = module(batch())
    assert codes.shape == (4, 40, 3) and int(codes.max()) < 16
    assert torch.equal(module.quantizer.decode(codes), quantized)


def test_padding_counts_nowhere():
    module, x = load("bottleneck"), batch()
    mask = torch.ones(4, 40, dtype=torch.bool)
    mask[1, 20:] = False
    expected = module(x, mask=mask)
    x[1, 20:] = 1e4
    torch.testing.assert_close(module(x, mask=mask), expected, rtol=0, atol=0)
    assert (expected[1][1, 20:] == -1).all()


def test_weights_are_mapped_where_a_quantizer_has_them_and_conf_wins():
    module = BottleneckQuantizer(8, 0.3, quantizer="entropy_vq")
    assert module.quantizer.loss_weights["entropy"] == 0.3
    conf = {"entropy_weight": 0.2, "inv_temperature": 7.0}
    module = BottleneckQuantizer(8, 0.3, quantizer_conf=conf)
    assert module.quantizer.loss_weights["entropy"] == 0.2
    x = batch()
    assert torch.equal(module(x)[2], module(x, 7.0)[2])
    assert not torch.equal(module(x)[2], module(x, 100.0)[2])
    assert conf == {"entropy_weight": 0.2, "inv_temperature": 7.0}


def test_more_codes_than_a_table_holds_are_refused():
    with pytest.raises(ConfigError, match=r"2\*\*40 codes, too many for the table"):
        BottleneckQuantizer(40, quantizer="vq")
    conf = {"codebook_size": 64}
    small = BottleneckQuantizer(40, quantizer="vq", quantizer_conf=conf)
    assert small.quantizer.codebook_size == 64
    assert BottleneckQuantizer(40, 0).quantizer.codebook_size == 2**40
