"""The parts of a SpeechBrain codec: networks, losses, any family between."""

import math

import pytest
import torch

import sb_espnet_vq
from sb_espnet_vq.errors import ConfigError, ShapeError

pytest.importorskip("torchaudio")

from sb_espnet_vq.codec.discriminator import (
    SpectralDiscriminator,
    adversarial_loss,
    feature_loss,
    judge_loss,
)
from sb_espnet_vq.codec.losses import SpectralLoss
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


@pytest.mark.parametrize("name", sb_espnet_vq.list_quantizers())
def test_codes_decode_to_the_audio_of_forward_with_every_family(name, audio):
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


@pytest.mark.parametrize("told", [True, False])
def test_a_batch_of_codes_decodes_as_its_rows_alone(audio, told):
    model = codec().eval()
    samples = torch.tensor([815, 433, 20])
    codes = model.encode(audio, samples)
    together = model.decode(codes, samples if told else None)
    for row, count in enumerate(samples.tolist()):
        own = codes[row : row + 1, : -(-count // HOP)]
        alone = model.decode(own, samples[row : row + 1] if told else None)[0]
        assert len(alone) == (count if told else own.shape[1] * HOP)
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


def test_a_checkpoint_of_another_family_is_named():
    with pytest.raises(RuntimeError, match="written with another quantizer than 'vq'"):
        codec("vq").load_state_dict(codec("entropy_vq").state_dict())
    model = codec()
    model.load_state_dict(codec().state_dict())


def test_a_family_that_cannot_use_fewer_codebooks_is_refused():
    with pytest.raises(ConfigError, match="no option 'n_codebooks'"):
        codec("vq", n_codebooks=2)


def test_spectral_distances_are_those_of_a_plain_transform(audio):
    estimate = audio.flip(0).clone().requires_grad_()
    loss = SpectralLoss(8000, windows=(64, 128), n_mels=(6, 10), floor=1e-3)
    found = loss(estimate, audio)
    stft, mel = [], []
    for window in (64, 128):
        pair = [magnitudes(x.detach(), window) for x in (estimate, audio)]
        logs = [x.clamp(min=1e-3).log() for x in pair]
        stft.append((pair[0] - pair[1]).abs().mean() + (logs[0] - logs[1]).abs().mean())
        bank = loss.get_buffer(f"bank_{window}").double()
        logs = [(x @ bank).clamp(min=1e-3).log() for x in pair]
        mel.append((logs[0] - logs[1]).abs().mean())
    assert found.stft.item() == pytest.approx(sum(stft).item() / 2, rel=1e-3)
    assert found.mel.item() == pytest.approx(sum(mel).item() / 2, rel=1e-3)
    sum(found).backward()
    assert estimate.grad.isfinite().all() and estimate.grad.abs().sum() > 0


def magnitudes(signals, window):
    """Frame by frame: cut out, weigh, transform."""
    padded = torch.nn.functional.pad(signals.double(), (window // 2, window // 2))
    shape = torch.hann_window(window, dtype=torch.float64) * 4 / window
    frames = padded.unfold(1, window, window // 4) * shape
    return torch.fft.rfft(frames).abs()


def test_a_sine_of_amplitude_1_has_magnitude_1_and_silence_has_gradients():
    loss = SpectralLoss(8000, windows=(64,), n_mels=(6,))
    sine = torch.sin(2 * math.pi * torch.arange(6400) * 8 / 64)[None]
    assert magnitudes(sine, 64)[0, 40:60, 8].mean().item() == pytest.approx(1, rel=1e-3)
    silence = torch.zeros(1, 6400, requires_grad=True)
    sum(loss(silence, sine)).backward()
    assert silence.grad.isfinite().all()
    with pytest.raises(ShapeError, match="one shape"):
        loss(sine, sine[:, 1:])
    with pytest.raises(ConfigError, match="a number for each of the 2 windows"):
        SpectralLoss(8000, windows=(64, 128), n_mels=(6,))


def test_the_discriminator_learns_to_tell_and_the_codec_is_told(audio):
    torch.manual_seed(0)
    judge = SpectralDiscriminator(windows=(64, 128), channels=4, layers=2)
    fake = 0.1 * torch.sin(torch.arange(815.0))[None].repeat(3, 1)
    optimizer = torch.optim.Adam(judge.parameters(), lr=0.01)
    before = judge_loss(judge(audio), judge(fake)).item()
    for _ in range(60):
        optimizer.zero_grad()
        judge_loss(judge(audio), judge(fake)).backward()
        optimizer.step()
    assert judge_loss(judge(audio), judge(fake)) < before / 2
    assert adversarial_loss(judge(audio)) < adversarial_loss(judge(fake))
    heard = fake.clone().requires_grad_()
    assert feature_loss(judge(audio), judge(audio)) == 0
    feature_loss(judge(audio), judge(heard)).backward()
    assert heard.grad.abs().sum() > 0
