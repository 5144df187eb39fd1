"""Quantizers made of others, as the quantizer of an ESPnet codec."""

import pytest
import torch

from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer

NESTED = {
    "n_groups": 2,
    "quantizer": "residual",
    "quantizer_conf": {
        "n_codebooks": 4,
        "quantizer": "fsq",
        "quantizer_conf": {"levels": [8, 5, 5, 5]},
    },
}


def nested(**options):
    torch.manual_seed(0)
    sizes = {"dimension": 32, "bins": 1024, "n_q": 8, "quantizer": "grouped"}
    return CodecQuantizer(**{**sizes, "quantizer_conf": NESTED, **options})


def test_a_bandwidth_selects_the_first_codes():
    q, x = nested().eval(), torch.randn(2, 32, 50)
    codes = q.encode(x, 50)
    assert codes.shape == (8, 2, 50) and q.bins == 1000 and q.n_q == 8
    half = q(x, 50, bandwidth=2.0)
    assert torch.equal(half.codes, codes[:4])
    torch.testing.assert_close(q.decode(half.codes), half.quantized)
    assert half.bandwidth.item() == pytest.approx(4 * 50 * 9.966 / 1000, rel=1e-3)


def test_dropout_is_passed_on_and_all_codes_are_returned():
    q, x = nested(quantizer_dropout=True), torch.randn(6, 32, 50)
    assert q.vq.quantizer_dropout
    out = q(x, 50)
    assert len(out) == 5 and int(out.codes.min()) >= 0
    fine, coarse = q.decode(out.codes), q.decode(out.codes[:1])
    same = [
        any(torch.allclose(row, each[number]) for each in (fine, coarse))
        for number, row in enumerate(out.quantized)
    ]
    assert not all(same)


def test_a_checkpoint_of_another_nesting_is_refused():
    shallow = {"n_groups": 2, "quantizer": "rvq"}
    state = nested().state_dict()
    for other in (
        CodecQuantizer(32, 32, 8, quantizer="rvq"),
        nested(quantizer_conf=shallow),
    ):
        with pytest.raises(RuntimeError, match="written with another quantizer"):
            other.load_state_dict(state, strict=False)
        with pytest.raises(RuntimeError, match="written with another quantizer"):
            nested().load_state_dict(other.state_dict(), strict=False)
    nested().load_state_dict(state)
