"""Metrics of explanations, compared with loops over clips."""

import pytest
import torch

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.evaluation.explanations import explanation_figures


def draw(count, classes=4, sharpness=3.0):
    generator = torch.Generator().manual_seed(count)
    logits = torch.randn(3, count, classes, generator=generator, dtype=torch.float64)
    return (sharpness * logits).softmax(2)


def test_metrics_equal_those_of_a_loop_over_clips():
    whole, kept, left = draw(200)
    same, lost, more, drop, gain = [], [], [], [], []
    for clip in range(200):
        c = max(range(4), key=lambda k: float(whole[clip, k]))
        p, o, q = (float(x[clip, c]) for x in (whole, kept, left))
        same.append(all(o >= float(kept[clip, k]) for k in range(4)))
        lost.append(p - q)
        more.append(100 if o > p else 0)
        drop.append(100 * max(0, p - o) / p)
        gain.append(100 * max(0, o - p) / (1 - p))
    expected = [sum(x) / 200 for x in (same, lost, more, drop, gain)]
    assert list(explanation_figures(whole, kept, left)) == pytest.approx(expected)


def test_a_full_mask_has_no_drop_and_an_empty_mask_no_gain():
    whole, other, _ = draw(50)
    everything = explanation_figures(whole, whole, other)
    assert everything.input_fidelity == 1
    assert everything[2:] == (0, 0, 0)
    nothing = torch.full_like(whole, 0.25)
    metrics = explanation_figures(whole, nothing, whole)
    assert metrics.faithfulness == 0 and metrics.average_increase == 0
    assert 0 < metrics.average_drop < 75 and metrics.average_gain == 0


def test_a_class_with_probability_1_has_no_gain():
    certain = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    less = torch.tensor([[0.75, 0.25]], dtype=torch.float64)
    assert explanation_figures(certain, certain, less) == (1, 0.25, 0, 0, 0)
    assert explanation_figures(certain, less, less).average_drop == 25
    almost = torch.tensor([[1 - 2e-16, 2e-16]], dtype=torch.float64)
    assert explanation_figures(almost, certain, less).average_gain == 100


def test_probabilities_of_different_shapes_are_refused():
    whole = draw(5)[0]
    with pytest.raises(ShapeError, match=r"equal shape, got \(5, 4\), \(4, 4\)"):
        explanation_figures(whole, whole[:4], whole)
    with pytest.raises(ShapeError, match="must be three tensors"):
        explanation_figures(whole[:0], whole[:0], whole[:0])
