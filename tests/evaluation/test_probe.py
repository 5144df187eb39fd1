"""Linear probes: accuracy, optimality, draws of examples and errors."""

import pytest
import torch

from sb_espnet_vq.evaluation.probe import (
    draw_labelled,
    fit_logistic,
    probe_accuracy,
)


def clusters(count, distance, dims=20, classes=4):
    y = torch.arange(count) % classes
    return distance * torch.eye(classes, dims)[y] + torch.randn(count, dims), y


def test_separable_classes_are_discriminated():
    x, y = clusters(400, distance=10.0)
    assert probe_accuracy(x[:200], y[:200], x[200:], y[200:]) == 1.0


def test_noise_is_classified_at_chance_level():
    x, y = clusters(2200, distance=0.0)
    accuracy = probe_accuracy(x[:200], y[:200], x[200:], y[200:])
    assert abs(accuracy - 0.25) < 0.05


def test_scale_and_offset_of_a_dimension_do_not_matter():
    x, y = clusters(400, distance=2.0)
    scaled = x * torch.logspace(-3, 3, 20) + torch.linspace(-9, 9, 20)
    one = probe_accuracy(x[:200], y[:200], x[200:], y[200:])
    assert one == probe_accuracy(scaled[:200], y[:200], scaled[200:], y[200:])


def test_constant_dimensions_and_missing_classes_are_allowed():
    x, y = clusters(400, distance=10.0)
    x[:, 7] = 3.0
    seen = (y != 2).nonzero()[:, 0][:90]
    accuracy = probe_accuracy(x[seen], y[seen], x[200:], y[200:])
    assert accuracy == pytest.approx(0.75)


def test_more_dimensions_than_examples_still_generalise():
    y = torch.arange(700) % 4
    x = 0.5 * torch.randn(4, 300)[y] + torch.randn(700, 300)
    assert probe_accuracy(x[:100], y[:100], x[100:], y[100:]) > 0.9


def test_the_fit_reaches_the_optimum():
    x, y = clusters(100, distance=1.0)
    x = x.double()
    weight = fit_logistic(x, y, 4, penalty=0.01).requires_grad_()
    loss = torch.nn.functional.cross_entropy(x @ weight[:-1] + weight[-1], y)
    (loss + 0.005 * weight[:-1].square().sum()).backward()
    assert weight.grad.abs().max() < 2e-3


def test_labelled_examples_are_balanced_and_distinct():
    labels = torch.tensor([0] * 500 + [1] * 30 + [2] * 5)
    drawn = draw_labelled(labels, 60, seed=1)
    assert labels[drawn].bincount().tolist() == [28, 27, 5]
    assert len(set(drawn.tolist())) == 60
    assert torch.equal(drawn, draw_labelled(labels, 60, seed=1))
    assert not torch.equal(drawn, draw_labelled(labels, 60, seed=2))
    assert sorted(draw_labelled(labels, 999, seed=1).tolist()) == list(range(535))


def test_mismatched_shapes_are_named():
    x, y = clusters(40, distance=1.0)
    with pytest.raises(ValueError, match=r"train: .*\(40, 20\) and \(39,\)"):
        probe_accuracy(x, y[:-1], x, y)
    with pytest.raises(ValueError, match="20 dimensions, but test features 19"):
        probe_accuracy(x, y, x[:, 1:], y)
    with pytest.raises(ValueError, match="4 labelled examples are too few"):
        probe_accuracy(x[:4], y[:4], x, y)
