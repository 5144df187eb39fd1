"""A residual chain of finite scalar quantizers, forward and backward."""

from collections.abc import Callable
from typing import Any

import torch

from sb_espnet_vq.bench.case import Case, Problem, Results, Run, Sizes
from sb_espnet_vq.bench.cases import fsq
from sb_espnet_vq.bench.contenders import floor, ours, vqp
from sb_espnet_vq.bench.tensors import rows

_LEVELS, _CHAIN = fsq.LEVELS, 4


def reference(problem: Problem) -> Results:
    """Quantize what is left to an even grid, in float64."""
    x = rows(problem["x"]).double().requires_grad_()
    numbers = torch.tensor(_LEVELS, dtype=torch.float64)
    limits = numbers / (numbers - 1)
    residual = limits * (x @ problem["inward"].double().t() / limits).tanh()
    places = torch.tensor([1, *_LEVELS[:-1]]).cumprod(0)
    total, codes = torch.zeros_like(residual), []
    for level in range(_CHAIN):
        scale = numbers**-level
        clipped = (residual / scale).clamp(-1, 1)
        digits = ((clipped + 1) * (numbers - 1) / 2 + 0.5).floor().detach()
        value = 2 * digits / (numbers - 1) - 1
        total = total + scale * (value + (clipped - clipped.detach()) / _CHAIN)
        residual = residual - scale * value
        codes.append((digits.long() * places).sum(1))
    quantized = total @ problem["outward"].double().t()
    (gradient,) = torch.autograd.grad(quantized, x, rows(problem["grad"]).double())
    return {
        "codes": torch.stack(codes, 1).flatten(),
        "quantized": quantized.detach(),
        "gradient of x": gradient,
    }


def _run(kind: Any, problem: Problem) -> Run:
    conf = {"quantizer": "fsq", "quantizer_conf": {"levels": _LEVELS}}
    dim = problem["x"].shape[-1]
    return fsq.run_module(kind(dim, n_codebooks=_CHAIN, **conf), problem)


def _run_vqp(kind: Any, problem: Problem) -> Run:
    dim = problem["x"].shape[-1]
    quantizer = kind(levels=_LEVELS, num_quantizers=_CHAIN, dim=dim)
    run = fsq.run_module(quantizer, problem)

    def read(result: Any) -> Results:
        # Theirs adds up the gradients of the levels, ours is their mean.
        results = run.read(result)
        return results | {"gradient of x": results["gradient of x"] / _CHAIN}

    return Run(run.step, read)


def floor_step(problem: Problem) -> Callable[[], Any]:
    """The products with both projections and of their gradients."""
    return fsq.floor_step(problem)


def _sizes(given: Sizes) -> Sizes:
    return {**given, "levels": _CHAIN}


CASE = Case(
    name="residual",
    title="{levels} levels of fsq (8, 5, 5, 5), forward and backward of "
    "({batch}, {frames}, {dim})",
    sizes=_sizes(fsq.CASE.sizes),
    quick=_sizes(fsq.CASE.quick),
    problem=fsq.problem,
    reference=reference,
    contenders=(
        ours("sb_espnet_vq.combinators.residual.Residual", _run),
        vqp("ResidualFSQ", _run_vqp),
        floor(floor_step),
    ),
    floor=fsq.CASE.floor,
)
