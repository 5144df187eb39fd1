"""Metrics of a codec, compared with plain formulas."""

import math

import pytest
import torch

from sb_espnet_vq.evaluation.codecs import cost, quality

pytest.importorskip("torchmetrics")
pytest.importorskip("pystoi")


@pytest.fixture
def speech():
    """Noise with the envelope of syllables, two seconds at 8 kHz."""
    generator = torch.Generator().manual_seed(0)
    loudness = torch.sin(torch.arange(16000) / 600).abs()
    return 0.1 * loudness * torch.randn(16000, generator=generator)


def noisy(signal, decibels):
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(signal.shape, generator=generator)
    return signal + noise * signal.norm() / noise.norm() * 10 ** (-decibels / 20)


def test_more_noise_is_worse_by_every_metric(speech):
    good, bad = (quality(noisy(speech, x), speech, 8000) for x in (20, 0))
    assert good.si_sdr == pytest.approx(20, abs=0.3)
    assert bad.si_sdr == pytest.approx(0, abs=0.3)
    assert good.mel_distance < bad.mel_distance
    assert good.stoi > bad.stoi + 0.1


def test_gain_changes_only_the_mel_distance(speech):
    quieter = quality(speech / 2, speech, 8000)
    assert quieter.si_sdr > 60
    assert quieter.mel_distance == pytest.approx(20 * math.log10(2), rel=0.02)
    assert quieter.stoi == pytest.approx(1, abs=1e-3)


def test_stoi_is_none_for_too_short_audio(speech):
    assert quality(speech[:2000], speech[:2000], 8000).stoi is None
    mostly_silent = torch.cat([speech[:2000], torch.zeros(20000)])
    assert quality(mostly_silent, mostly_silent, 8000).stoi is None


def test_the_entropy_bitrate_is_at_most_the_bitrate():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(64, (5000, 3), generator=generator)
    codes[:, 1] = 7
    spent = cost(codes, codebook_sizes=[64] * 4, seconds=50.0)
    assert spent.bitrate == pytest.approx(3 * 6 * 100 / 1000)
    probs = [torch.bincount(codes[:, k]) / 5000 for k in (0, 2)]
    bits = sum(-(p * p.log2()).sum() for p in probs)
    assert spent.entropy_bitrate == pytest.approx(float(bits) * 0.1, rel=1e-4)
    assert spent.used_codes == pytest.approx((64 + 1 + 64) / 3)
    # Codebooks of different sizes; the second is not used at the lower rate.
    for used, bits in ((2, 6), (1, 4)):
        spent = cost(codes[:, :used] % 4, codebook_sizes=[16, 4], seconds=50.0)
        assert spent.bitrate == pytest.approx(bits * 100 / 1000)
    huge = cost(torch.tensor([[2**61], [3]]), codebook_sizes=[2**62], seconds=1.0)
    assert huge.perplexity == pytest.approx(2)
