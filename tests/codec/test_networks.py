"""Encoder and decoder networks."""

import pytest
import torch

from sb_espnet_vq.errors import ConfigError, ShapeError

pytest.importorskip("torchaudio")

from sb_espnet_vq.codec.networks import ConvDecoder, ConvEncoder

SIZES = {"dim": 8, "channels": 4, "ratios": (4, 5), "residual_units": 2}
HOP = 20


@pytest.fixture
def audio():
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(3, 815, generator=generator)


@pytest.mark.parametrize("length", [1, HOP - 1, HOP, HOP + 1, 815])
def test_frames_are_hops_rounded_up_and_audio_is_whole_frames(length):
    frames = ConvEncoder(**SIZES)(torch.randn(2, length))
    assert frames.shape == (2, -(-length // HOP), 8)
    assert ConvDecoder(**SIZES)(frames).shape == (2, frames.shape[1] * HOP)


def test_what_follows_an_utterance_changes_none_of_its_frames_or_audio(audio):
    encoder, decoder = ConvEncoder(**SIZES), ConvDecoder(**SIZES)
    samples = torch.tensor([815, 433, 20])
    loud = torch.arange(815) >= samples[:, None]
    frames = encoder(torch.where(loud, 100.0, audio), samples)
    counts = -(-samples // HOP)
    signals = decoder(frames, counts)
    for row, count in enumerate(counts.tolist()):
        alone = encoder(audio[row : row + 1, : samples[row]])
        torch.testing.assert_close(frames[row, :count], alone[0])
        assert not frames[row, count:].any()
        torch.testing.assert_close(signals[row, : count * HOP], decoder(alone)[0])
        assert not signals[row, count * HOP :].any()


def test_a_causal_network_needs_nothing_later(audio):
    encoder, decoder = (
        each(**SIZES, causal=True) for each in (ConvEncoder, ConvDecoder)
    )
    changed = torch.cat([audio[:, : 20 * HOP], 9 * audio[:, 20 * HOP :]], 1)
    frames, others = encoder(audio), encoder(changed)
    assert torch.equal(frames[:, :20], others[:, :20])
    assert not torch.equal(frames[:, 20], others[:, 20])
    signals, others = decoder(frames), decoder(others)
    assert torch.equal(signals[:, : 20 * HOP], others[:, : 20 * HOP])
    assert signals.shape == (3, 41 * HOP)
    # The centred one is a network of the same weights.
    ConvEncoder(**SIZES).load_state_dict(encoder.state_dict())


def test_a_new_network_passes_signals_on_at_their_size():
    torch.manual_seed(0)
    x = torch.randn(4, 2000)
    frames = ConvEncoder(dim=64, channels=16, ratios=(4, 4, 5))(x)
    # Spread over time, which is what tells frames apart.
    assert 0.3 < frames.std(1).mean() < 3


def test_sizes_that_make_no_network_are_refused():
    for wrong in ({"ratios": ()}, {"ratios": (4, 1)}, {"kernel_size": 4}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ConvEncoder(**SIZES | wrong)
    with pytest.raises(ConfigError, match="residual_units must be 0 or more"):
        ConvDecoder(**SIZES | {"residual_units": -1})
    with pytest.raises(ShapeError, match=r"\(B, L\) with L above 0"):
        ConvEncoder(**SIZES)(torch.zeros(2, 0))
