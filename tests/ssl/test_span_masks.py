"""Span masks: within each utterance, and determined by key and length."""

import pytest
import torch

from sb_espnet_vq.ssl.span_masks import span_masks


def keys(count):
    return [f"key {n}" for n in range(count)]


def test_masks_stay_within_each_utterance_and_leave_frames_unmasked():
    lengths = [0, 1, 2, 3, 5, 40, 100] * 30
    for prob, span in [(0.0, 1), (0.1, 2), (0.6, 1), (0.3, 200), (1.0, 4)]:
        masks = span_masks(lengths, keys(len(lengths)), prob, span, total=110)
        assert masks.shape == (len(lengths), 110)
        for mask, length in zip(masks, lengths, strict=True):
            assert not mask[length:].any()
            real = int(mask[:length].sum())
            assert (1 <= real < length) if length >= 2 else real == 0


def test_the_masked_fraction_is_that_of_overlapping_spans():
    masks = span_masks([1000] * 50, keys(50), start_prob=0.1, span=2)
    assert float(masks.float().mean()) == pytest.approx(1 - 0.9**2, abs=0.01)
    edges = (masks[:, 1:] & ~masks[:, :-1]).sum()
    assert float(masks.sum() / edges) > 2


def test_a_mask_depends_only_on_key_and_length():
    alone = span_masks([30], ["a"], 0.2, 3)[0]
    state = torch.get_rng_state()
    batch = span_masks([12, 30, 50], ["b", "a", "c"], 0.2, 3)
    assert torch.equal(batch[1, :30], alone)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(span_masks([30], ["other"], 0.2, 3)[0], alone)


def test_invalid_mask_settings_are_refused():
    with pytest.raises(ValueError, match="start_prob must be in"):
        span_masks([3], ["a"], 1.2, 1)
    with pytest.raises(ValueError, match="span must be at least 1"):
        span_masks([3], ["a"], 0.2, 0)
