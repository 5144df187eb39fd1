"""Front ends and their normalization."""

import pytest
import torch

from sb_espnet_vq.ssl.front_ends import LogMelFrontEnd, WaveformFrontEnd
from sb_espnet_vq.ssl.normalization import CorpusNormalization
from sb_espnet_vq.utils.speech_batch import SpeechBatch


def test_statistics_are_those_of_all_frames():
    frames = torch.randn(50, 3) * torch.tensor([1.0, 10.0, 0.0]) + 5
    normalize = CorpusNormalization(3)
    normalize.gather(frames.split([1, 20, 29]))
    assert normalize.count == 50
    got = normalize(frames)
    torch.testing.assert_close(got.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    expected = torch.tensor([1.0, 1.0, 0.0])
    torch.testing.assert_close(got.std(0, unbiased=False), expected)


def waveform():
    models = pytest.importorskip("speechbrain.lobes.models.wav2vec")
    extractor = models.W2VLatentExtractor([8, 8, 8], [11, 3, 3], [5, 2, 2])
    return WaveformFrontEnd(extractor, start_from_data=True)


def log_mel():
    features = pytest.importorskip("speechbrain.lobes.features")
    fbank = features.Fbank(n_mels=10, n_fft=400)
    return LogMelFrontEnd(fbank, n_mels=10, hop=160, stack=3)


def batch_of(*lengths):
    signals = [0.1 + torch.randn(n) for n in lengths]
    padded = torch.nn.utils.rnn.pad_sequence(signals, batch_first=True)
    return SpeechBatch([f"u{n}" for n in lengths], padded, torch.tensor(lengths))


@pytest.mark.parametrize("make", [log_mel, waveform])
def test_padding_does_not_affect_latent_frames(make):
    front_end, batch = make().eval(), batch_of(4000, 1600, 300, 7)
    front_end.gather([batch])
    together = front_end(batch.signals, batch.samples)
    lengths = front_end.lengths(batch.samples)
    assert together.shape[1] >= lengths.max() > lengths[1] > 1
    for row, length in enumerate(lengths.tolist()):
        samples = batch.samples[row : row + 1]
        alone = front_end(batch.signals[row : row + 1, :samples], samples)
        assert front_end.lengths(samples) == length
        torch.testing.assert_close(
            alone[0, :length], together[row, :length], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("make", [log_mel, waveform])
def test_initial_latent_frames_have_mean_0_and_deviation_1(make):
    front_end, batch = make(), batch_of(40000, 3000)
    front_end.gather([batch])
    state = {name: value.clone() for name, value in front_end.state_dict().items()}
    front_end.gather([batch_of(5000)])
    assert all(torch.equal(front_end.state_dict()[n], x) for n, x in state.items())
    frames = front_end(batch.signals, batch.samples)
    steps = torch.arange(frames.shape[1])
    real = frames[steps < front_end.lengths(batch.samples)[:, None]]
    assert real.mean().abs() < 0.02
    assert real.mean(0).abs().max() < 0.3
    assert 0.8 < real.std(0).min() and real.std(0).max() < 1.2
    # A loaded model is already initialized.
    loaded = make()
    loaded.load_state_dict(front_end.state_dict())
    loaded.gather([batch_of(5000)])
    assert all(torch.equal(loaded.state_dict()[n], x) for n, x in state.items())
