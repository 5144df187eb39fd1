"""Binary spherical quantization with its entropy loss, forward and backward."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sb_espnet_vq.bench.case import Case, Problem, Results, Run, Sizes
from sb_espnet_vq.bench.contenders import drop_in_and_original, floor, vqp
from sb_espnet_vq.bench.tensors import learnable, rows

_MODULE = "speechbrain.lobes.models.bsq"
_WEIGHT, _GAMMA, _INV_TEMPERATURE = 0.1, 1.0, 100.0


def problem(sizes: Sizes) -> Problem:
    """Draw frames, and the gradient with respect to the quantized frames."""
    torch.manual_seed(0)
    shape = sizes["batch"], sizes["frames"], sizes["bits"]
    return {"x": torch.randn(shape), "grad": torch.randn(shape)}


def reference(problem: Problem) -> Results:
    """Compute the loss over all codes explicitly, in float64 and without clamps.

    Frames are processed in tiles. The entropy of the mean assignment depends on all
    frames, so a first pass computes the mean, and a second one the gradients at it.
    """
    x = problem["x"].double().flatten(0, 1).requires_grad_()
    bits = x.shape[1]
    values = 2 ** torch.arange(bits - 1, -1, -1)
    table = (torch.arange(2**bits)[:, None] & values != 0).double() * 2 - 1
    table = table / bits**0.5
    tile = max(1, 2**22 // len(table))

    def probs(frames: Tensor) -> Tensor:
        logits = F.normalize(frames, dim=-1) @ table.t()
        return (2 * _INV_TEMPERATURE * logits).softmax(-1)

    with torch.no_grad():
        sums = [probs(frames).sum(0) for frames in x.split(tile)]
        mean = torch.stack(sums).sum(0) / len(x)
    of_mean = -torch.xlogy(mean, mean).sum()
    of_frames, codes = 0.0, (x > 0).long() @ values
    log_mean = mean.clamp(min=1e-300).log()
    gradients = []
    for frames in x.split(tile):
        p = probs(frames)
        own = -torch.xlogy(p, p).sum()
        # The derivative of -sum(m log m) is -(log m + 1), at the mean of all frames.
        towards_mean = -(p * (log_mean + 1)).sum()
        part = _WEIGHT * (own - _GAMMA * towards_mean) / len(x)
        gradients.append(torch.autograd.grad(part, frames)[0])
        of_frames += own.item() / len(x)
    passed = torch.autograd.grad(F.normalize(x, dim=-1), x, rows(problem["grad"]))[0]
    return {
        "codes": codes,
        "quantized": table[codes],
        "loss": torch.tensor(_WEIGHT * (of_frames - _GAMMA * float(of_mean))),
        "gradient of x": torch.cat(gradients) + passed,
    }


def _read(result) -> Results:
    (quantized, codes, loss), gradient = result
    return {
        "codes": codes.flatten(),
        "quantized": rows(quantized),
        "loss": loss.detach(),
        "gradient of x": rows(gradient),
    }


def _run(kind: Any, problem: Problem) -> Run:
    return _run_module(kind(problem["x"].shape[-1]), problem)


def _run_vqp(kind: Any, problem: Problem) -> Run:
    return _run_module(kind(dim=problem["x"].shape[-1], spherical=True), problem)


def _run_module(quantizer: torch.nn.Module, problem: Problem) -> Run:
    quantizer.to(problem["x"].device)
    x, grad = learnable(problem["x"]), problem["grad"]
    one = grad.new_ones(())

    def step():
        quantized, codes, loss = quantizer(x)
        (gradient,) = torch.autograd.grad((quantized, loss), x, (grad, one))
        return (quantized, codes, loss), gradient

    return Run(step, _read)


def floor_step(problem: Problem) -> Callable[[], Any]:
    """Return the lower bound: the factorized mean assignment and its gradient."""
    x, grad = problem["x"].flatten(0, 1), problem["grad"].flatten(0, 1)
    bits = x.shape[1]
    left = torch.rand(len(x), 2 ** (bits - bits // 2), device=x.device)
    right = torch.rand(len(x), 2 ** (bits // 2), device=x.device)

    def step():
        first, second = left.clone(), right.clone()
        mean = first.t() @ second
        return second @ mean.t(), first @ mean, x.clone(), grad.clone()

    return step


CASE = Case(
    name="bsq",
    title="forward and backward of ({batch}, {frames}, {bits}), {bits} bits",
    sizes={"batch": 8, "frames": 500, "bits": 13},
    quick={"batch": 2, "frames": 20, "bits": 5},
    problem=problem,
    reference=reference,
    contenders=(
        *drop_in_and_original(f"{_MODULE}.BinarySphericalQuantizer", _run),
        vqp("LFQ", _run_vqp, "LFQ"),
        floor(floor_step),
    ),
    floor="the product of the probabilities of the two halves of the bits and the two "
    "products of its gradient; both factors, the output and the gradient written once",
    # Other implementations clamp their logarithms at 1e-5.
    tolerance=1e-3,
)
