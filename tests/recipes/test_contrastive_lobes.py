"""Negatives, contrastive logits and front ends, against slow and obvious references."""

import math

import pytest
import torch
import torch.nn.functional as F

from sb_espnet_vq.ssl.contrastive_scores import contrastive_logits
from sb_espnet_vq.ssl.front_ends import LogMelFrontEnd, WaveformFrontEnd
from sb_espnet_vq.ssl.negatives import Negatives, sample_negatives
from sb_espnet_vq.ssl.normalization import CorpusNormalization
from sb_espnet_vq.ssl.span_masks import span_masks
from sb_espnet_vq.utils.seeds import seed_of
from sb_espnet_vq.utils.speech_batch import SpeechBatch


def keys(count):
    return [f"key {n}" for n in range(count)]


def slow_negatives(mask, names, count):
    """For each frame a list of negatives, or None where it is not masked."""
    found = []
    for row, name in zip(mask.tolist(), names, strict=True):
        frames = [t for t, masked in enumerate(row) if masked]
        generator = torch.Generator().manual_seed(seed_of(name))
        luck = torch.rand(len(frames), len(frames), generator=generator).tolist()
        found.append([None] * len(row))
        for place, frame in enumerate(frames):
            others = [n for n in range(len(frames)) if n != place]
            others.sort(key=lambda n, mine=luck[place]: mine[n])
            found[-1][frame] = [frames[n] for n in others[:count]]
    return found


@pytest.mark.parametrize("count", [1, 5, 30])
def test_negatives_are_those_of_the_slow_reference(count):
    lengths = [0, 1, 2, 9, 40, 25]
    mask = span_masks(lengths, keys(6), 0.2, 3, total=44)
    negatives = sample_negatives(mask, keys(6), count)
    assert negatives.frames.shape == negatives.real.shape == (6, 44, count)
    expected = slow_negatives(mask, keys(6), count)
    for row in range(6):
        for frame in range(44):
            real = negatives.real[row, frame]
            drawn = negatives.frames[row, frame][real].tolist()
            assert drawn == (expected[row][frame] or [])
            assert real.tolist() == sorted(real.tolist(), reverse=True)


def test_negatives_are_other_masked_frames_each_as_likely_as_the_rest():
    mask = torch.zeros(400, 12, dtype=torch.bool)
    mask[:, [1, 2, 5, 6, 10]] = True
    negatives = sample_negatives(mask, keys(400), 2)
    drawn = negatives.frames[:, 5]
    assert (drawn[:, 0] != drawn[:, 1]).all()
    counts = torch.bincount(drawn.flatten(), minlength=12)
    assert set(counts.nonzero()[:, 0].tolist()) == {1, 2, 6, 10}
    # 200 expected each, with a standard deviation of 10.
    assert (counts[counts > 0] - 200).abs().max() < 50


def test_negatives_depend_on_their_key_and_mask_alone():
    mask = span_masks([30, 50], ["a", "b"], 0.3, 2)
    state = torch.get_rng_state()
    together = sample_negatives(mask, ["a", "b"], 4)
    alone = sample_negatives(mask[:1, :30], ["a"], 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(together.frames[0, :30], alone.frames[0])
    assert not together.real[0, 30:].any()
    other = sample_negatives(mask[:1, :30], ["other"], 4)
    assert not torch.equal(other.frames, alone.frames)


def test_wrong_negatives_settings_are_refused():
    with pytest.raises(ValueError, match="at least 1 negative, not 0"):
        sample_negatives(torch.ones(2, 3, dtype=torch.bool), keys(2), 0)
    with pytest.raises(ValueError, match=r"mask must be .* got \(3,\)"):
        sample_negatives(torch.ones(3, dtype=torch.bool), keys(3), 1)


def slow_logits(predictions, targets, mask, negatives, codes, temperature):
    rows = []
    for b, t in mask.nonzero().tolist():
        row = [F.cosine_similarity(predictions[b, t], targets[b, t], dim=0)]
        drawn = negatives.frames[b, t], negatives.real[b, t]
        for other, real in zip(*drawn, strict=True):
            same = torch.equal(codes[b, t], codes[b, other])
            alike = F.cosine_similarity(predictions[b, t], targets[b, other], dim=0)
            row.append(alike if real and not same else torch.tensor(-math.inf))
        rows.append(torch.stack(row) / temperature)
    return torch.stack(rows)


def test_logits_are_those_of_the_slow_reference_and_equal_codes_are_no_negatives():
    mask = span_masks([20, 7, 1, 4], keys(4), 0.3, 2, total=23)
    codes = torch.randint(3, (4, 23, 2))
    table = torch.randn(3, 2, 5)
    targets = table[codes[..., 0], 0] + table[codes[..., 1], 1]
    predictions = torch.randn(4, 23, 5, requires_grad=True)
    negatives = sample_negatives(mask, keys(4), 6)
    got = contrastive_logits(predictions, targets, mask, negatives, 0.1)
    expected = slow_logits(predictions, targets, mask, negatives, codes, 0.1)
    torch.testing.assert_close(got, expected)
    assert got.isfinite().any(1).all()
    assert not got.isfinite().all()
    gradients = [
        torch.autograd.grad(F.cross_entropy(x, x.new_zeros(len(x)).long()), predictions)
        for x in (got, expected)
    ]
    torch.testing.assert_close(*gradients)
    with torch.autocast("cpu", torch.bfloat16):
        low = contrastive_logits(predictions, targets, mask, negatives, 0.1)
    assert torch.equal(low, got)


def test_what_is_not_masked_changes_no_logits():
    mask = span_masks([9, 30], keys(2), 0.2, 3)
    negatives = sample_negatives(mask, keys(2), 4)
    predictions, targets = torch.randn(2, 2, 30, 8)
    before = contrastive_logits(predictions, targets, mask, negatives, 1.0)
    predictions[~mask], targets[~mask] = 100.0, -100.0
    after = contrastive_logits(predictions, targets, mask, negatives, 1.0)
    assert torch.equal(before, after)


def test_one_target_for_all_leaves_nothing_to_tell_apart():
    mask = torch.ones(1, 6, dtype=torch.bool)
    negatives = sample_negatives(mask, ["a"], 3)
    same = torch.randn(4).expand(1, 6, 4)
    # As a projection may round equal rows.
    nearly = same * (1 + 1e-6 * torch.rand(1, 6, 1))
    logits = contrastive_logits(torch.randn(1, 6, 4), nearly, mask, negatives, 1.0)
    assert logits[:, 0].isfinite().all()
    assert (logits[:, 1:] == -math.inf).all()


def test_nothing_masked_gives_no_logits_and_a_graph():
    mask = torch.zeros(2, 3, dtype=torch.bool)
    negatives = sample_negatives(mask, keys(2), 4)
    assert isinstance(negatives, Negatives)
    predictions = torch.randn(2, 3, 4, requires_grad=True)
    logits = contrastive_logits(predictions, predictions, mask, negatives, 1.0)
    assert logits.shape == (0, 5)
    logits.sum().backward()
    assert not predictions.grad.any()


def test_statistics_are_those_of_all_frames_together():
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
def test_padding_changes_no_latent_frames(make):
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
def test_latent_frames_start_with_mean_0_and_deviation_1(make):
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
    # A model that is loaded has started already.
    loaded = make()
    loaded.load_state_dict(front_end.state_dict())
    loaded.gather([batch_of(5000)])
    assert all(torch.equal(loaded.state_dict()[n], x) for n, x in state.items())
