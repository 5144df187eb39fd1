"""Metrics of an utterance: directions, undefined values, missing libraries."""

import math
import sys

import pytest
import torch

from sb_espnet_vq.evaluation.metrics.audio import Audio
from sb_espnet_vq.evaluation.metrics.table import METRICS, compare, missing_metrics

RATE = 8000


def generator(seed):
    return torch.Generator().manual_seed(seed)


def voice(hertz, seconds=2.0, rate=RATE):
    """Pulses as of a voice, with syllables and the resonances of a vowel."""
    time = torch.arange(int(rate * seconds)) / rate
    tones = [torch.sin(2 * math.pi * hertz * n * time) / n for n in range(1, 12)]
    syllables = (torch.sin(2 * math.pi * 2.5 * time) > -0.3).float()
    hiss = 1e-3 * torch.randn(len(time), generator=generator(0))
    return 0.1 * torch.stack(tones).sum(0) * syllables + hiss


def noisy(signal, decibels):
    noise = torch.randn(signal.shape, generator=generator(1))
    return signal + noise * signal.norm() / noise.norm() * 10 ** (-decibels / 20)


def need(*names):
    for name in names:
        for module in METRICS[name].modules:
            pytest.importorskip(module)


@pytest.fixture(scope="module")
def speech():
    return Audio(voice(120), RATE)


@pytest.mark.parametrize("name", [x for x in METRICS if x != "dnsmos"])
def test_more_noise_is_worse_and_none_is_best(speech, name):
    need(name)
    function, title = METRICS[name].function, METRICS[name].title
    damaged = [noisy(speech.signal, decibels) for decibels in (10, -5)]
    best, good, bad = (
        function(Audio(signal, RATE), speech) for signal in (speech.signal, *damaged)
    )
    if title.higher_is_better:
        best, good, bad = -best, -good, -bad
    # The pitch of a voice in moderate noise is still right.
    assert best < bad and best <= good <= bad + (1e-3 if name == "f0_error" else 0)


def test_gain_changes_only_metrics_of_the_spectrum():
    need("si_sdr", "mel_distance", "stoi")
    loudness = torch.sin(torch.arange(2 * RATE) / 600).abs()
    noise = torch.randn(2 * RATE, generator=generator(0))
    speech = Audio(0.1 * loudness * noise, RATE)
    names = ["si_sdr", "mel_distance", "stft_distance", "stoi"]
    quieter = compare(Audio(speech.signal / 2, RATE), speech, names)
    assert quieter["si_sdr"] > 60
    assert quieter["mel_distance"] == pytest.approx(20 * math.log10(2), rel=0.02)
    # Convergence and log difference at half the amplitude.
    assert quieter["stft_distance"] == pytest.approx(0.5 + math.log(2), rel=0.02)
    assert quieter["stoi"] == pytest.approx(1, abs=1e-3)


def test_the_pitch_error_is_in_cents():
    need("f0_error", "voicing_error")
    low, high = Audio(voice(120), RATE), Audio(voice(120 * 2 ** (1 / 12)), RATE)
    assert METRICS["f0_error"].function(high, low) == pytest.approx(100, abs=10)
    # Half of the syllables are lost.
    half = low.signal.clone()
    half[RATE:] = 1e-3 * torch.randn(RATE, generator=generator(2))
    voiced = METRICS["voicing_error"].function(Audio(half, RATE), low)
    assert voiced == pytest.approx(0.5 * 0.6, abs=0.1)


def test_metrics_without_a_value_are_none():
    need(*METRICS)
    silence = Audio(torch.zeros(RATE), RATE)
    undefined = compare(silence, silence, METRICS)
    assert {name for name, value in undefined.items() if value is not None} == {
        # Two silences are equal.
        "mel_distance"
    }
    short = Audio(voice(120, 0.2), RATE)
    assert compare(short, short, ["stoi", "pesq"]) == {"stoi": None, "pesq": None}
    mostly_silent = torch.cat([voice(120, 0.2), torch.zeros(20000)])
    audio = Audio(mostly_silent, RATE)
    assert compare(audio, audio, ["stoi"]) == {"stoi": None}


def test_a_silent_reconstruction_of_speech_has_no_ratio_and_no_mos():
    names = ["si_sdr", "pesq"]
    need(*names)
    recording = Audio(voice(120), RATE)
    silence = Audio(torch.zeros(len(recording.signal)), RATE)
    assert compare(silence, recording, names) == dict.fromkeys(names)


def test_a_recording_of_a_few_samples_ends_no_evaluation():
    names = ["mel_distance", "stoi", "stft_distance", "si_sdr"]
    need(*names)
    few = Audio(voice(120)[:200], RATE)
    values = compare(few, few, names)
    assert values["mel_distance"] is None and values["stoi"] is None


def test_other_sample_rates_are_resampled():
    names = ["pesq", "speaker_similarity"]
    need(*names)
    clean = Audio(voice(120, rate=24000), 24000)
    damaged = Audio(noisy(clean.signal, 5), 24000)
    at_16_khz = [Audio(audio.at(16000), 16000) for audio in (damaged, clean)]
    values = compare(damaged, clean, names)
    assert values == pytest.approx(compare(*at_16_khz, names))
    assert values["pesq"] < 4 and values["speaker_similarity"] < 0.99


def test_two_voices_are_less_similar_than_one():
    need("speaker_similarity")
    one, same, other = (
        Audio(voice(110), RATE),
        Audio(voice(115), RATE),
        Audio(voice(240), RATE),
    )
    similarity = METRICS["speaker_similarity"].function
    assert similarity(same, one) > similarity(other, one) + 0.05


def test_dnsmos_is_of_the_reconstruction_alone(speech):
    need("dnsmos")
    loud = Audio(3 * speech.signal / speech.signal.abs().max(), RATE)
    noise = Audio(noisy(speech.signal, -5), RATE)
    value, worse = (METRICS["dnsmos"].function(x, noise) for x in (loud, noise))
    assert 1 <= worse < value <= 5


def test_what_is_computed_of_a_recording_is_computed_once():
    calls = []

    def count(audio):
        calls.append(audio)
        return len(audio.signal)

    audio = Audio(torch.zeros(5), RATE)
    assert audio.of(count) == audio.of(count) == 5
    assert calls == [audio]


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    missing = missing_metrics(["stft_distance", "pesq"])
    assert missing == {"pesq": "pip install 'sb_espnet_vq[metrics]'"}


def test_every_metric_says_its_direction():
    assert METRICS["pesq"].title.axis() == "PESQ (MOS), higher is better"
    assert METRICS["f0_error"].title.axis() == "F0 error (cents), lower is better"
