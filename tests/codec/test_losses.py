"""Spectral losses, against a plain transform."""

import math

import pytest
import torch

from sb_espnet_vq.errors import ConfigError, ShapeError

pytest.importorskip("torchaudio")

from sb_espnet_vq.codec.losses import SpectralLoss


@pytest.fixture
def audio():
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(3, 815, generator=generator)


def test_spectral_distances_are_those_of_a_plain_transform(audio):
    estimate = audio.flip(0).clone().requires_grad_()
    loss = SpectralLoss(8000, windows=(64, 128), n_mels=(6, 10), floor=1e-3)
    output = loss(estimate, audio)
    stft, mel = [], []
    for window in (64, 128):
        pair = [magnitudes(x.detach(), window) for x in (estimate, audio)]
        logs = [x.clamp(min=1e-3).log() for x in pair]
        stft.append((pair[0] - pair[1]).abs().mean() + (logs[0] - logs[1]).abs().mean())
        bank = loss.get_buffer(f"bank_{window}").double()
        logs = [(x @ bank).clamp(min=1e-3).log() for x in pair]
        mel.append((logs[0] - logs[1]).abs().mean())
    assert output.stft.item() == pytest.approx(sum(stft).item() / 2, rel=1e-3)
    assert output.mel.item() == pytest.approx(sum(mel).item() / 2, rel=1e-3)
    sum(output).backward()
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
    with pytest.raises(ShapeError, match="the same shape"):
        loss(sine, sine[:, 1:])
    with pytest.raises(ConfigError, match="one value for each of the 2 windows"):
        SpectralLoss(8000, windows=(64, 128), n_mels=(6,))
