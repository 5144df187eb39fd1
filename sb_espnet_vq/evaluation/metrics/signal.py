"""Distances of waveforms and of spectrograms."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from sb_espnet_vq.evaluation.metrics.audio import Audio

# Smaller amplitudes are inaudible (-80 dB relative to full scale).
_FLOOR = 1e-4
# Windows of the multi-resolution STFT distance in seconds, those of the paper.
_WINDOWS = (0.01, 0.025, 0.05)


def si_sdr(estimate: Audio, target: Audio) -> float | None:
    """Return the scale-invariant signal-to-distortion ratio in dB.

    Le Roux et al. 2019, https://arxiv.org/abs/1811.02508. Higher is better.

    Arguments
    ---------
    estimate, target : Audio
        The reconstruction and the recording, of one length.

    Returns
    -------
    float or None
        None if the recording or the reconstruction is silent: 0 would be better than
        a bad reconstruction.

    Example
    -------
    >>> x = torch.sin(torch.arange(8000) / 5)
    >>> noisy = x + 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    >>> round(si_sdr(Audio(noisy, 8000), Audio(x, 8000)))
    17
    """
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    if target.is_silent() or estimate.is_silent():
        return None
    return float(
        scale_invariant_signal_distortion_ratio(
            estimate.signal, target.signal, zero_mean=True
        )
    )


def mel_distance(estimate: Audio, target: Audio) -> float | None:
    """Return the mean absolute difference of 80-band mel spectrograms in dB.

    Lower is better.

    Arguments
    ---------
    estimate, target : Audio
        The reconstruction and the recording, of one length.

    Returns
    -------
    float or None
        None if the recording is shorter than half a window (16 ms at 16 kHz).
    """
    if len(target.signal) <= _mel(target.sample_rate).n_fft // 2:
        return None
    return float((_decibels(estimate) - _decibels(target)).abs().mean())


def stft_distance(estimate: Audio, target: Audio) -> float | None:
    """Return the multi-resolution STFT distance.

    Yamamoto et al. 2020 (Parallel WaveGAN), https://arxiv.org/abs/1910.11480: the mean
    over three window lengths (10, 25 and 50 ms) of the spectral convergence plus the
    mean absolute difference of log magnitudes (nat). Lower is better.

    Arguments
    ---------
    estimate, target : Audio
        The reconstruction and the recording, of one length.

    Returns
    -------
    float or None
        None if the recording is silent.

    Example
    -------
    >>> x = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    >>> round(stft_distance(Audio(x / 2, 8000), Audio(x, 8000)), 2)
    1.19
    """
    if target.is_silent():
        return None
    distances = []
    for seconds in _WINDOWS:
        window = max(4, round(seconds * target.sample_rate))
        found, wanted = (_magnitudes(x.signal, window) for x in (estimate, target))
        convergence = (found - wanted).norm() / wanted.norm()
        # Below the floor, differences are inaudible.
        found, wanted = found.clamp(min=_FLOOR), wanted.clamp(min=_FLOOR)
        distances.append(convergence + (found.log() - wanted.log()).abs().mean())
    return float(torch.stack(distances).mean())


def _magnitudes(signal: Tensor, window: int) -> Tensor:
    """Return an STFT of frames that overlap by three quarters."""
    weights = torch.hann_window(window)
    spectrum = torch.stft(
        # So that a sine of amplitude 1 has magnitude 1.
        signal * 2 / weights.sum(),
        n_fft=1 << math.ceil(math.log2(window)),
        hop_length=max(1, window // 4),
        win_length=window,
        window=weights,
        pad_mode="constant",
        return_complex=True,
    )
    return spectrum.abs()


def _decibels(audio: Audio) -> Tensor:
    mel = _mel(audio.sample_rate)(audio.signal)
    return mel.clamp(min=_FLOOR).log10() * 20


@functools.lru_cache(maxsize=4)
def _mel(sample_rate: int):
    from torchaudio.transforms import MelSpectrogram

    window = 1 << math.ceil(math.log2(sample_rate / 20))
    # Amplitudes, so that a sine of amplitude 1 is near 0 dB.
    return MelSpectrogram(
        sample_rate,
        n_fft=window,
        hop_length=window // 4,
        n_mels=80,
        power=1.0,
        window_fn=lambda size: torch.hann_window(size) * 4 / size,
    )
