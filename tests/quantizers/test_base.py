"""Gradients and outputs of every quantizer."""

import copy

import pytest
import torch
from random_frames import normal

from sb_espnet_vq import build, list_quantizers


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rvq", {}),
        ("rvq", {"code_dim": 3}),
        ("bsq", {"codebook_size": 64}),
        ("entropy_vq", {}),
        ("vq", {}),
        ("class_partitioned", {}),
    ],
)
def test_second_derivatives(name, options):
    """Those of float32, which has ways of its own on a CPU, against float64's."""
    q = build(name, dim=8, **({"codebook_size": 16} | options))
    q(normal(1, 40, 8))
    found = []
    for dtype in (torch.float32, torch.float64):
        x = normal(1, 40, 8, seed=1).to(dtype).requires_grad_()
        # Each from the same state: a training step would move the codebooks.
        fresh = copy.deepcopy(q).to(dtype)
        (slope,) = torch.autograd.grad(fresh(x).loss, x, create_graph=True)
        found += torch.autograd.grad(slope.square().sum(), x)
    assert float(found[1].abs().sum()) > 0
    torch.testing.assert_close(found[0].double(), found[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", list_quantizers())
def test_codes_may_be_written_into(name):
    q = build(name, dim=8, codebook_size=16)
    x = normal(2, 30, 8).requires_grad_()
    out = q(x)
    out.codes.add_(1)
    (out.loss + out.quantized.sum()).backward()
    assert bool(x.grad.isfinite().all())


# In eval gumbel passes no gradient to its input.
@pytest.mark.parametrize("name", sorted({*list_quantizers()} - {"gumbel"}))
def test_functional_gradients(name):
    q = build(name, dim=8, codebook_size=16)
    q(normal(2, 30, 8))
    q.eval()

    def total(x):
        out = q(x)
        return out.loss + out.quantized.square().sum()

    x = normal(2, 30, 8).requires_grad_()
    (expected,) = torch.autograd.grad(total(x), x)
    torch.testing.assert_close(torch.func.grad(total)(x.detach()), expected)
