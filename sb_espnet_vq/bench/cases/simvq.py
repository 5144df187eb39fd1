"""Training step of one SimVQ codebook: fixed vectors behind a learned linear map."""

from collections.abc import Callable
from typing import Any

import torch

from sb_espnet_vq.bench.case import Case, Problem, Results, Run, Sizes
from sb_espnet_vq.bench.cases import vq
from sb_espnet_vq.bench.cases.floors import products_with_argmax
from sb_espnet_vq.bench.contenders import floor, ours, vqp
from sb_espnet_vq.bench.tensors import learnable, rows

# Weight of the commitment loss in both classes.
_COMMITMENT = 0.25


def problem(sizes: Sizes) -> Problem:
    """Draw fixed vectors, a map, and frames close to the mapped vectors."""
    drawn = vq.problem(sizes)
    dim = sizes["dim"]
    linear = torch.eye(dim) + 0.1 * torch.randn(dim, dim) / dim**0.5
    return {**drawn, "linear": linear}


def reference(problem: Problem) -> Results:
    """Find the nearest mapped vectors, and the gradients of the losses, in float64."""
    x, table = rows(problem["x"]).double(), problem["table"].double()
    linear = problem["linear"].double()
    vectors = table @ linear.t()
    codes = torch.cdist(x, vectors).argmin(1)
    away = x - vectors[codes]
    slope = 2 * away / away.numel()
    return {
        "codes": codes,
        "quantized": vectors[codes],
        "loss": (1 + _COMMITMENT) * away.square().mean(),
        "gradient of x": rows(problem["grad"]).double() + _COMMITMENT * slope,
        "gradient of the map": -slope.t() @ table[codes],
    }


def _train(quantizer: torch.nn.Module, linear: torch.Tensor, problem: Problem) -> Run:
    quantizer.to(problem["x"].device)
    with torch.no_grad():
        linear.copy_(problem["linear"])
    x, grad = learnable(problem["x"]), problem["grad"]
    one = grad.new_ones(())

    def step():
        quantized, codes, loss, *_ = quantizer(x)
        outputs, inputs = (quantized, loss), (x, linear)
        gradients = torch.autograd.grad(outputs, inputs, (grad, one))
        return quantized, codes, loss, *gradients

    return Run(step, _read)


def _read(result: tuple[torch.Tensor, ...]) -> Results:
    quantized, codes, loss, of_x, of_map = result
    return {
        "codes": codes.flatten(),
        "quantized": rows(quantized),
        "loss": loss.detach(),
        "gradient of x": rows(of_x),
        "gradient of the map": of_map,
    }


def _run(kind: Any, problem: Problem) -> Run:
    table = problem["table"]
    quantizer = kind(table.shape[1], len(table), commitment_weight=_COMMITMENT)
    quantizer.get_buffer("_codebook.table").copy_(table)
    linear = quantizer.get_parameter("_codebook.linear.weight")
    return _train(quantizer, linear, problem)


def _run_vqp(kind: Any, problem: Problem) -> Run:
    table = problem["table"]
    quantizer = kind(
        dim=table.shape[1],
        codebook_size=len(table),
        rotation_trick=False,
        input_to_quantize_commit_loss_weight=_COMMITMENT,
    )
    quantizer.get_buffer("frozen_codebook").copy_(table)
    linear = quantizer.get_parameter("code_transform.weight")
    return _train(quantizer, linear, problem)


def floor_step(problem: Problem) -> Callable[[], Any]:
    """Return the lower bound: the products with the map and with the vectors."""
    frames, table = rows(problem["x"]), problem["table"]
    linear, grad = problem["linear"], rows(problem["grad"])

    def step():
        vectors = table @ linear.t()
        codes = products_with_argmax(frames, vectors)
        # Gradients of the same code add up, so the map needs one row for each code.
        sums = torch.zeros_like(table).index_add_(0, codes, grad)
        return sums.t() @ table, problem["x"].clone(), problem["grad"].clone()

    return step


CASE = Case(
    name="simvq",
    title=f"training step of {vq.WORK}",
    sizes=vq.SIZES,
    quick=vq.QUICK,
    problem=problem,
    reference=reference,
    contenders=(
        ours("sb_espnet_vq.quantizers.simvq.SimVQ", _run),
        vqp("SimVQ", _run_vqp),
        floor(floor_step),
    ),
    floor="the products with the map, with the mapped vectors and for the gradient of "
    "the map; the output and the gradient written once",
)
