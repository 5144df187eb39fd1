"""Finite scalar quantization between projections, forward and backward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.bench.case import Case, Problem, Results, Run, Sizes
from sb_espnet_vq.bench.contenders import floor, ours, vqp
from sb_espnet_vq.bench.tensors import learnable, rows

LEVELS = [8, 5, 5, 5]


def problem(sizes: Sizes) -> Problem:
    """Draw frames, projections, and the gradient of the quantized frames."""
    torch.manual_seed(0)
    shape = sizes["batch"], sizes["frames"], sizes["dim"]
    x, grad = torch.randn(shape), torch.randn(shape)
    inward = torch.randn(len(LEVELS), sizes["dim"]) / sizes["dim"] ** 0.5
    outward = torch.randn(sizes["dim"], len(LEVELS))
    return {"x": x, "grad": grad, "inward": inward, "outward": outward}


def reference(problem: Problem) -> Results:
    """Find the nearest of each channel's levels in float64."""
    x = rows(problem["x"]).double().requires_grad_()
    channels = x @ problem["inward"].double().t()
    levels, digits = [], []
    for channel, number in zip(channels.unbind(1), LEVELS, strict=True):
        half = (number - 1) * 1.001 / 2
        offset = torch.tensor(0.0 if number % 2 else 0.5)
        bounded = (channel + (offset / half).atanh()).tanh() * half - offset
        grid = torch.arange(number) - number // 2
        digit = (bounded[:, None] - grid).abs().argmin(1)
        value = (grid[digit] + bounded - bounded.detach()) / (number // 2)
        levels.append(value)
        digits.append(digit)
    quantized = torch.stack(levels, 1) @ problem["outward"].double().t()
    (gradient,) = torch.autograd.grad(quantized, x, rows(problem["grad"]).double())
    codes = torch.zeros(len(x), dtype=torch.int64)
    for digit, number in zip(digits[::-1], LEVELS[::-1], strict=True):
        codes = codes * number + digit
    return {
        "codes": codes,
        "quantized": quantized.detach(),
        "gradient of x": gradient,
    }


def run_module(quantizer: torch.nn.Module, problem: Problem) -> Run:
    """Return a step of a module with these two projections."""
    quantizer.to(problem["x"].device)
    with torch.no_grad():
        quantizer.get_parameter("project_in.weight").copy_(problem["inward"])
        quantizer.get_parameter("project_out.weight").copy_(problem["outward"])
        for name, bias in quantizer.named_parameters():
            if name.endswith("bias"):
                bias.zero_()
    x, grad = learnable(problem["x"]), problem["grad"]
    weights = list(quantizer.parameters())

    def step():
        quantized, codes, *_ = quantizer(x)
        gradients = torch.autograd.grad(quantized, [x, *weights], grad)
        return quantized, codes, gradients[0]

    return Run(step, _read)


def _read(result: tuple[Tensor, Tensor, Tensor]) -> Results:
    quantized, codes, gradient = result
    return {
        "codes": codes.flatten().long(),
        "quantized": rows(quantized),
        "gradient of x": rows(gradient),
    }


def _run(kind: Any, problem: Problem) -> Run:
    return run_module(kind(problem["x"].shape[-1], levels=LEVELS), problem)


def _run_vqp(kind: Any, problem: Problem) -> Run:
    return run_module(kind(LEVELS, dim=problem["x"].shape[-1]), problem)


def floor_step(problem: Problem) -> Callable[[], Any]:
    """The products with both projections and of their gradients."""
    x, grad = rows(problem["x"]), rows(problem["grad"])
    inward, outward = problem["inward"], problem["outward"]
    narrow = x @ inward.t()

    def step():
        narrowed = x @ inward.t()
        back = grad @ outward
        gradients = grad.t() @ narrow, narrow.t() @ x
        return narrowed @ outward.t(), back @ inward, gradients

    return step


CASE = Case(
    name="fsq",
    title="forward and backward of ({batch}, {frames}, {dim}), levels 8, 5, 5, 5",
    sizes={"batch": 16, "frames": 150, "dim": 256},
    quick={"batch": 2, "frames": 20, "dim": 16},
    problem=problem,
    reference=reference,
    contenders=(
        ours("sb_espnet_vq.quantizers.fsq.FSQ", _run),
        vqp("FSQ", _run_vqp),
        floor(floor_step),
    ),
    floor="the products with both projections and the four of their gradients",
)
