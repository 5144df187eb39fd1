"""Sampling of negatives, compared with a slow reference."""

import pytest
import torch

from sb_espnet_vq.ssl.negatives import sample_negatives
from sb_espnet_vq.ssl.span_masks import span_masks
from sb_espnet_vq.utils.seeds import seed_of


def keys(count):
    return [f"key {n}" for n in range(count)]


def slow_negatives(mask, names, count):
    """Return a list of negatives for each frame, or None if it is not masked."""
    negatives = []
    for row, name in zip(mask.tolist(), names, strict=True):
        frames = [t for t, masked in enumerate(row) if masked]
        generator = torch.Generator().manual_seed(seed_of(name))
        order = torch.rand(len(frames), len(frames), generator=generator).tolist()
        negatives.append([None] * len(row))
        for index, frame in enumerate(frames):
            others = [n for n in range(len(frames)) if n != index]
            others.sort(key=lambda n, row_order=order[index]: row_order[n])
            negatives[-1][frame] = [frames[n] for n in others[:count]]
    return negatives


@pytest.mark.parametrize("count", [1, 5, 30])
def test_negatives_equal_the_reference(count):
    lengths = [0, 1, 2, 9, 40, 25]
    mask = span_masks(lengths, keys(6), 0.2, 3, total=44)
    negatives = sample_negatives(mask, keys(6), count)
    assert negatives.frames.shape == negatives.valid.shape == (6, 44, count)
    expected = slow_negatives(mask, keys(6), count)
    for row in range(6):
        for frame in range(44):
            valid = negatives.valid[row, frame]
            drawn = negatives.frames[row, frame][valid].tolist()
            assert drawn == (expected[row][frame] or [])
            assert valid.tolist() == sorted(valid.tolist(), reverse=True)


def test_negatives_are_uniform_over_the_other_masked_frames():
    mask = torch.zeros(400, 12, dtype=torch.bool)
    mask[:, [1, 2, 5, 6, 10]] = True
    negatives = sample_negatives(mask, keys(400), 2)
    drawn = negatives.frames[:, 5]
    assert (drawn[:, 0] != drawn[:, 1]).all()
    counts = torch.bincount(drawn.flatten(), minlength=12)
    assert set(counts.nonzero()[:, 0].tolist()) == {1, 2, 6, 10}
    # 200 expected each, with a standard deviation of 10.
    assert (counts[counts > 0] - 200).abs().max() < 50


def test_negatives_depend_only_on_key_and_mask():
    mask = span_masks([30, 50], ["a", "b"], 0.3, 2)
    state = torch.get_rng_state()
    together = sample_negatives(mask, ["a", "b"], 4)
    alone = sample_negatives(mask[:1, :30], ["a"], 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(together.frames[0, :30], alone.frames[0])
    assert not together.valid[0, 30:].any()
    other = sample_negatives(mask[:1, :30], ["other"], 4)
    assert not torch.equal(other.frames, alone.frames)


def test_invalid_settings_of_negatives_are_refused():
    with pytest.raises(ValueError, match="at least 1 negative, got 0"):
        sample_negatives(torch.ones(2, 3, dtype=torch.bool), keys(2), 0)
    with pytest.raises(ValueError, match=r"mask must be .* got \(3,\)"):
        sample_negatives(torch.ones(3, dtype=torch.bool), keys(3), 1)
