"""Tiled results and their recomputation in backward equal the untiled ones."""

import pytest
import torch

from sb_espnet_vq.ops import gumbel, nearest, soft_assignment


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


@pytest.fixture
def tiled(monkeypatch):
    """Return a function that makes every tile one of three rows."""

    def use():
        monkeypatch.setitem(nearest._TILE_SCORES, "cpu", 1)
        monkeypatch.setattr(gumbel, "_KEPT_SCORES", 0)
        for module in (gumbel, soft_assignment):
            monkeypatch.setattr(module, "_FEWEST_ROWS", 3)

    return use


def drawn(weighted):
    """Return all results of a draw with first and second derivatives."""
    torch.manual_seed(0)
    given = normal(20, 6), normal(14, 6), normal(14), normal(2, 7, 3)
    x, weight, bias, tables = given
    frame_weight = torch.rand(20, dtype=torch.float64) if weighted else None
    found = gumbel.draw_entries(x, (weight, bias), tables, 0.7, frame_weight)
    total = (found.entries * normal(20, 2, 3).detach()).sum()
    if weighted:
        total = total + (found.probs.log() * found.probs).sum()
    grads = torch.autograd.grad(total, given, create_graph=True)
    after = torch.rand(3)
    second = torch.autograd.grad(sum(each.square().sum() for each in grads), given)
    return *(each for each in found if each is not None), *grads, after, *second


@pytest.mark.parametrize("weighted", [True, False])
def test_drawn_entries(weighted, tiled):
    """Same codes from the same seed, and the same generator state afterwards."""
    expected = drawn(weighted)
    tiled()
    for got, wanted in zip(drawn(weighted), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_the_backward_pass_draws_from_a_generator_of_its_own(tiled):
    tiled()
    x, weight, bias, tables = normal(20, 6), normal(14, 6), normal(14), normal(2, 7, 3)
    torch.manual_seed(0)
    found = gumbel.draw_entries(x, (weight, bias), tables, 0.7)
    expected = torch.rand(3)
    torch.manual_seed(0)
    found = gumbel.draw_entries(x, (weight, bias), tables, 0.7)
    found.entries.sum().backward()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("in_tiles", [True, False])
def test_soft_assignment(in_tiles, tiled):
    """Against the formula written out, with two derivatives."""
    torch.manual_seed(0)
    x, table = normal(20, 3), normal(7, 3)
    weight, slope = torch.rand(2, 20, dtype=torch.float64)[0], torch.randn(7).double()
    if in_tiles:
        tiled()
    results = []
    for how in (soft_assignment.assign, _assign_directly):
        codes, total = how(x, table, weight, 0.5)
        loss = (total * slope).sum() + total.log().sum()
        grads = torch.autograd.grad(loss, (x, table), create_graph=True)
        second = torch.autograd.grad(
            sum(each.square().sum() for each in grads), (x, table)
        )
        results.append((codes, total, *grads, *second))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected)


def _assign_directly(x, table, weight, temperature):
    distance = (x[:, None] - table).square().sum(-1)
    return distance.argmin(1), weight @ (-distance / temperature).softmax(1)


def test_gradients_of_soft_assignment(tiled):
    tiled()
    torch.manual_seed(0)
    weight = torch.rand(8, dtype=torch.float64)
    torch.autograd.gradcheck(
        lambda x, table: soft_assignment.assign(x, table, weight, 0.9)[1],
        (normal(8, 3), normal(5, 3)),
    )
