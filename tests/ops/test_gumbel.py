"""Gumbel-softmax samples in tiles, compared with all frames at once."""

import pytest
import torch

from sb_espnet_vq.ops import (
    gumbel,
    nearest,
    soft_assignment,
)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


@pytest.fixture
def tiled(monkeypatch):
    """Return a function that limits tiles to three rows."""

    def use():
        monkeypatch.setitem(nearest._TILE_SCORES, "cpu", 1)
        monkeypatch.setattr(gumbel, "_KEPT_SCORES", 0)
        for module in (gumbel, soft_assignment):
            monkeypatch.setattr(module, "_FEWEST_ROWS", 3)

    return use


def drawn(weighted):
    """Return all results of sampling, with first and second derivatives."""
    torch.manual_seed(0)
    given = normal(20, 6), normal(14, 6), normal(14), normal(2, 7, 3)
    x, weight, bias, tables = given
    frame_weight = torch.rand(20, dtype=torch.float64) if weighted else None
    sample = gumbel.draw_entries(x, (weight, bias), tables, 0.7, frame_weight)
    total = (sample.entries * normal(20, 2, 3).detach()).sum()
    if weighted:
        total = total + (sample.probs.log() * sample.probs).sum()
    grads = torch.autograd.grad(total, given, create_graph=True)
    after = torch.rand(3)
    second = torch.autograd.grad(sum(each.square().sum() for each in grads), given)
    return *(each for each in sample if each is not None), *grads, after, *second


@pytest.mark.parametrize("weighted", [True, False])
def test_sampled_vectors(weighted, tiled):
    """Same codes from the same seed, and the same generator state afterwards."""
    expected = drawn(weighted)
    tiled()
    for got, wanted in zip(drawn(weighted), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_the_backward_pass_leaves_the_global_generator_unchanged(tiled):
    tiled()
    x, weight, bias, tables = normal(20, 6), normal(14, 6), normal(14), normal(2, 7, 3)
    torch.manual_seed(0)
    sample = gumbel.draw_entries(x, (weight, bias), tables, 0.7)
    expected = torch.rand(3)
    torch.manual_seed(0)
    sample = gumbel.draw_entries(x, (weight, bias), tables, 0.7)
    sample.entries.sum().backward()
    assert torch.equal(torch.rand(3), expected)
