"""Codec metrics: audio quality, bitrate and code usage."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Smaller amplitudes are inaudible (-80 dB relative to full scale).
_FLOOR = 1e-4


class Quality(NamedTuple):
    """Similarity of decoded audio to the recording.

    Arguments
    ---------
    si_sdr : float
        Scale-invariant signal-to-distortion ratio (dB), higher is better.
    mel_distance : float
        Mean absolute difference of 80-band mel spectrograms (dB), lower is better.
    stoi : float or None
        Short-time objective intelligibility, at most 1; None if less than 0.4 s of the
        recording is not silent.
    """

    si_sdr: float
    mel_distance: float
    stoi: float | None


class Cost(NamedTuple):
    """Bitrate and usage of codes.

    Arguments
    ---------
    bitrate : float
        In kbit/s, with log2(size) bits for every code of a codebook of that size.
    entropy_bitrate : float
        In kbit/s, with an ideal entropy coder that knows the frequency of each code.
    perplexity : float
        exp of the entropy of code usage, mean over codebooks.
    used_codes : float
        Number of codes used at least once, mean over codebooks.
    """

    bitrate: float
    entropy_bitrate: float
    perplexity: float
    used_codes: float


def quality(estimate: Tensor, target: Tensor, sample_rate: int) -> Quality:
    """Compare a decoded utterance with its recording.

    Arguments
    ---------
    estimate, target : torch.Tensor
        (L,) float32, the decoded utterance and its recording.
    sample_rate : int
        In Hz.

    Returns
    -------
    Quality

    Example
    -------
    >>> x = torch.sin(torch.arange(8000) / 5)
    >>> noisy = x + 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    >>> round(quality(noisy, x, 8000).si_sdr)
    17
    """
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    ratio = scale_invariant_signal_distortion_ratio(estimate, target, zero_mean=True)
    distance = (_decibels(estimate, sample_rate) - _decibels(target, sample_rate)).abs()
    return Quality(
        float(ratio), float(distance.mean()), _stoi(estimate, target, sample_rate)
    )


def mean_metrics(
    rows: Sequence[Mapping[str, float | None]],
) -> dict[str, float | None]:
    """Average metrics over utterances.

    Arguments
    ---------
    rows : sequence of mappings
        Metrics of each utterance, at least one; None for an undefined metric.

    Returns
    -------
    dict[str, float or None]
        Mean over the utterances for which the metric is defined; None if there are
        none.

    Example
    -------
    >>> mean_metrics([{"stoi": None, "si_sdr": 1.0}, {"stoi": 0.5, "si_sdr": 3.0}])
    {'stoi': 0.5, 'si_sdr': 2.0}
    """
    means: dict[str, float | None] = {}
    for name in rows[0]:
        known = [value for row in rows if (value := row[name]) is not None]
        means[name] = sum(known) / len(known) if known else None
    return means


def cost(codes: Tensor, codebook_sizes: Sequence[int], seconds: float) -> Cost:
    """Compute the bitrate and usage of codes.

    Arguments
    ---------
    codes : torch.Tensor
        (N, K) int64, codes of all frames.
    codebook_sizes : sequence of int
        Number of codes in each codebook, at least K of them.
    seconds : float
        Duration of the encoded audio.

    Returns
    -------
    Cost

    Example
    -------
    >>> cost(torch.tensor([[0], [0], [1], [1]]), codebook_sizes=[4], seconds=0.004)
    Cost(bitrate=2.0, entropy_bitrate=1.0, perplexity=2.0, used_codes=2.0)
    """
    frames, codebooks = codes.shape
    # Not bincount: codebooks may be too large for an array of counts.
    counts = [column.unique(return_counts=True)[1].double() for column in codes.T]
    bits = [
        float(torch.special.entr(each / frames).sum()) / math.log(2) for each in counts
    ]
    per_second = frames / seconds / 1000
    return Cost(
        sum(map(math.log2, codebook_sizes[:codebooks])) * per_second,
        sum(bits) * per_second,
        sum(2**each for each in bits) / codebooks,
        sum(len(each) for each in counts) / codebooks,
    )


def _decibels(signal: Tensor, sample_rate: int) -> Tensor:
    return _mel(sample_rate)(signal).clamp(min=_FLOOR).log10() * 20


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


def _stoi(estimate: Tensor, target: Tensor, sample_rate: int) -> float | None:
    from pystoi import stoi

    with warnings.catch_warnings():
        # If too little is left after the removal of silence, pystoi warns and returns
        # 1e-5.
        warnings.filterwarnings("error", "Not enough STFT frames")
        try:
            return float(stoi(target.numpy(), estimate.numpy(), sample_rate))
        except RuntimeWarning:
            return None
