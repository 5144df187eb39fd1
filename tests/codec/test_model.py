"""The codec with every quantizer."""

import pytest
import torch

import sb_espnet_vq
from sb_espnet_vq.errors import ConfigError, ShapeError

pytest.importorskip("torchaudio")

from sb_espnet_vq.codec.model import Codec
from sb_espnet_vq.codec.networks import ConvDecoder, ConvEncoder

SIZES = {"dim": 8, "channels": 4, "ratios": (4, 5), "residual_units": 2}
HOP = 20


def codec(quantizer="rvq", **conf):
    torch.manual_seed(0)
    return Codec(
        ConvEncoder(**SIZES),
        ConvDecoder(**SIZES),
        sample_rate=8000,
        dim=8,
        codebook_size=16,
        n_codebooks=4,
        quantizer=quantizer,
        quantizer_conf=conf,
    )


@pytest.fixture
def audio():
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(3, 815, generator=generator)


@pytest.mark.parametrize("name", sb_espnet_vq.list_quantizers())
def test_codes_decode_to_the_audio_of_forward_with_every_quantizer(name, audio):
    model = codec(name)
    samples = torch.tensor([815, 433, 20])
    model(audio, samples).loss.backward()
    assert all(p.grad is not None for p in model.encoder.parameters())
    model.eval()
    out = model(audio, samples)
    codes = model.encode(audio, samples)
    assert torch.equal(codes, out.codes)
    assert codes.shape == (3, 41, model.quantizer.n_codebooks)
    assert (codes[1, 22:] == -1).all() and (codes[1, :22] >= 0).all()
    decoded = model.decode(codes, samples)
    assert torch.equal(decoded[:, :815], out.signals)
    assert not out.signals[1, 433:].any()


@pytest.mark.parametrize("name", sb_espnet_vq.list_quantizers())
def test_decoded_audio_is_as_long_as_what_was_encoded(name):
    model = codec(name).eval()
    for length in (1, HOP - 1, HOP, HOP + 1, 79):
        signals, samples = torch.randn(2, length), torch.tensor([length, length])
        expected = model(signals).signals
        decoded = model.decode(model.encode(signals), samples)
        assert decoded.shape == expected.shape == (2, length)
        torch.testing.assert_close(decoded, expected)


@pytest.mark.parametrize("with_samples", [True, False])
def test_a_batch_of_codes_decodes_as_its_rows_alone(audio, with_samples):
    model = codec().eval()
    samples = torch.tensor([815, 433, 20])
    codes = model.encode(audio, samples)
    together = model.decode(codes, samples if with_samples else None)
    for row, count in enumerate(samples.tolist()):
        own = codes[row : row + 1, : -(-count // HOP)]
        alone = model.decode(own, samples[row : row + 1] if with_samples else None)[0]
        assert len(alone) == (count if with_samples else own.shape[1] * HOP)
        torch.testing.assert_close(together[row, : len(alone)], alone)
        assert not together[row, len(alone) :].any()


def test_lengths_that_do_not_fit_the_codes_are_refused(audio):
    model = codec().eval()
    codes = model.encode(audio)
    with pytest.raises(ShapeError, match=r"samples must be \(3,\).*got \(2,\)"):
        model.decode(codes, torch.tensor([1, 2]))
    for wrong in ([821, 1, 1], [-1, 1, 1]):
        with pytest.raises(ShapeError, match=r"must lie in \[0, 820\]"):
            model.decode(codes, torch.tensor(wrong))


def test_a_bandwidth_buys_as_many_codebooks_as_fit(audio):
    model = codec().eval()
    assert (model.frame_rate, model.bitrate(), model.bitrate(1)) == (400.0, 6.4, 1.6)
    for bandwidth, used in ((1.6, 1), (4.0, 2), (None, 4), (0, 4)):
        assert model.encode(audio, bandwidth=bandwidth).shape[-1] == used
        assert model(audio, bandwidth=bandwidth).codes.shape[-1] == used
    with pytest.raises(ConfigError, match="bandwidth must be a number"):
        model.encode(audio, bandwidth="wide")


def test_a_checkpoint_of_another_quantizer_is_named():
    with pytest.raises(RuntimeError, match="written with another quantizer than 'vq'"):
        codec("vq").load_state_dict(codec("entropy_vq").state_dict())
    model = codec()
    model.load_state_dict(codec().state_dict())


def test_a_quantizer_that_cannot_use_fewer_codebooks_is_refused():
    with pytest.raises(ConfigError, match="no option 'n_codebooks'"):
        codec("vq", n_codebooks=2)


@torch.no_grad()
def test_a_beam_encodes_closer(audio):
    model = codec().eval()
    frames = model.encoder(audio)
    usual, beam = model.encode(audio), model.encode(audio, beam=8)
    assert torch.equal(usual, model.encode(audio, beam=1))
    errors = [
        float((model.quantizer.decode(codes) - frames).square().sum())
        for codes in (usual, beam)
    ]
    assert errors[1] < errors[0]
    for beam, name in ((0, "rvq"), (8, "vq")):
        with pytest.raises(ConfigError, match=f"beam.*{beam}"):
            codec(name).encode(audio, beam=beam)
