"""A codebook with an entropy term for uniform usage: forward and backward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.bench.case import Case, Problem, Results, Run, Sizes
from sb_espnet_vq.bench.cases import vq
from sb_espnet_vq.bench.contenders import floor, ours, plain
from sb_espnet_vq.bench.tensors import learnable, rows
from sb_espnet_vq.ops.scores import first_argmax, scores


def problem(sizes: Sizes) -> Problem:
    """Draw a codebook and frames close to its vectors; set the temperature."""
    return {**vq.problem(sizes), "temperature": float(sizes["dim"])}


def _losses(x: Tensor, table: Tensor, temperature: float):
    """Compute all outputs from the full matrix of distances."""
    distance = torch.cdist(x, table).square()
    codes = distance.argmin(1)
    chosen = table[codes]
    mean = (-distance / temperature).softmax(1).mean(0)
    quantized = x + (chosen - x).detach()
    commitment = (x - chosen.detach()).square().mean()
    return quantized, codes, commitment, (mean * (mean + 1e-10).log()).sum()


def _step(x: Tensor, table: Tensor, losses, grad: Tensor):
    quantized, codes, commitment, entropy = losses()
    one = grad.new_ones(())
    outputs = (quantized, commitment, entropy)
    grads = torch.autograd.grad(outputs, (x, table), (grad, one, one))
    return outputs, codes, grads


def _read(result) -> Results:
    (quantized, commitment, entropy), codes, grads = result
    return {
        "codes": codes.flatten(),
        "quantized": rows(quantized),
        "commitment": commitment.detach(),
        "entropy": entropy.detach(),
        "gradient of x": rows(grads[0]),
        "gradient of codebook": grads[1],
    }


def _written_out(problem: Problem, dtype: torch.dtype) -> Run:
    x = learnable(rows(problem["x"]).to(dtype))
    table = learnable(problem["table"].to(dtype))
    grad, temperature = rows(problem["grad"]).to(dtype), problem["temperature"]
    return Run(
        lambda: _step(x, table, lambda: _losses(x, table, temperature), grad), _read
    )


def reference(problem: Problem) -> Results:
    """Compute the definition directly, in float64."""
    run = _written_out(problem, torch.float64)
    return run.read(run.step())


def written_out(problem: Problem) -> Run:
    """Compute the definition directly, without any optimization."""
    return _written_out(problem, torch.float32)


def _run(kind: Any, problem: Problem) -> Run:
    x, table = learnable(problem["x"]), problem["table"]
    quantizer = kind(len(table), table.shape[1], problem["temperature"])
    quantizer.load_state_dict({"codebook.weight": table})
    quantizer.to(x.device)
    weight = quantizer.codebook.weight
    return Run(lambda: _step(x, weight, lambda: quantizer(x), problem["grad"]), _read)


def floor_step(problem: Problem) -> Callable[[], Any]:
    """Return the lower bound: the product for the logits, its gradients, the argmax."""
    frames, table = rows(problem["x"]), problem["table"]

    def step():
        logits = scores(frames, table)
        codes = first_argmax(logits)
        grads = scores(logits, table.t()), scores(logits.t(), frames.t())
        return codes, table[codes], grads

    return step


CASE = Case(
    name="entropy_vq",
    title=f"forward and backward of {vq.WORK}",
    sizes=vq.SIZES,
    quick=vq.QUICK,
    problem=problem,
    reference=reference,
    contenders=(
        ours("sb_espnet_vq.nnet.quantisers.VectorQuantizer", _run),
        plain("plain cdist", written_out),
        floor(floor_step),
    ),
    floor="the product for the logits, the argmax and the two products of the "
    "gradient; the output written once",
)
