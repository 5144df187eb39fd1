"""Soft assignment in tiles, and its gradients."""

import pytest
import torch

from sb_espnet_vq.ops import gumbel, nearest, soft_assignment


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


@pytest.mark.parametrize("in_tiles", [True, False])
def test_soft_assignment(in_tiles, tiled):
    """Compare with the direct formula, including two derivatives."""
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
