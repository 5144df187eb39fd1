"""Training step of the Gumbel-softmax quantizer of wav2vec 2.0."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sb_espnet_vq.bench.case import Case, Problem, Results, Run, Sizes
from sb_espnet_vq.bench.contenders import drop_in_and_original, floor, plain
from sb_espnet_vq.bench.tensors import learnable, rows
from sb_espnet_vq.ops.scores import scores

_MODULE = "speechbrain.nnet.quantisers"
_TINY = 1e-7


def problem(sizes: Sizes, scale: float = 1.0, temperature: float = 2.0) -> Problem:
    """Draw frames and initial parameters; ``scale`` multiplies the logits."""
    torch.manual_seed(0)
    groups, size, width = sizes["groups"], sizes["codebook_size"], sizes["vq_dim"]
    x = torch.randn(sizes["batch"], sizes["frames"], sizes["dim"])
    return {
        "x": x,
        "weight": torch.randn(groups * size, sizes["dim"]) * scale,
        "bias": torch.randn(groups * size) * scale,
        "vars": torch.rand(1, groups * size, width // groups),
        "grad": torch.randn(*x.shape[:2], width),
        "grad_perplexity": torch.ones(()),
        "groups": groups,
        "temperature": temperature,
        "noise_counts": True,
    }


def checks(sizes: Sizes) -> list[Problem]:
    """Return two problems whose compared results do not depend on the noise.

    In the first, logits and temperature are so large that the noise is lost in
    rounding. In the second, the sampled vectors have a gradient of zero, and the
    perplexity of the mean probabilities, which has no noise, is far from saturation.
    """
    loud = problem(sizes, scale=1e6, temperature=2e7)
    loud.update(grad_perplexity=torch.zeros(()), noise_counts=False)
    even = problem(sizes, scale=0.05)
    even["grad"] = torch.zeros_like(even["grad"])
    return [loud, even]


def _logits(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    return F.linear(x.flatten(0, 1), weight, bias).unflatten(1, (groups, -1))


def _perplexity(mean: Tensor) -> Tensor:
    return (-(mean * (mean + _TINY).log()).sum(-1)).exp().sum()


def reference(problem: Problem) -> Results:
    """Multiply one-hot codes by the codebooks, in float64 and without noise."""
    groups = problem["groups"]
    given = [problem[name].double() for name in ("x", "weight", "bias", "vars")]
    x, weight, bias, entries = map(learnable, given)
    logits = _logits(x, weight, bias, groups)
    chosen = F.one_hot(logits.argmax(-1), logits.shape[-1]).double()
    soft = (logits / problem["temperature"]).softmax(-1)
    tables = entries.view(groups, -1, entries.shape[-1])
    value = torch.einsum("ngv,gvd->ngd", chosen + soft - soft.detach(), tables)
    spread = _perplexity(logits.softmax(-1).mean(0))
    grads = torch.autograd.grad(
        (value.flatten(1), spread),
        (x, weight, bias, entries),
        (rows(problem["grad"]).double(), problem["grad_perplexity"].double()),
    )
    results = _named(value.flatten(1), _perplexity(chosen.mean(0)), spread, grads)
    if problem["noise_counts"]:
        del results["value"]
    return results


def _named(value: Tensor, used: Tensor, spread: Tensor, grads) -> Results:
    return {
        "value": rows(value),
        "code perplexity": used.detach(),
        "mean perplexity": spread.detach(),
        "gradient of x": rows(grads[0]),
        "gradient of weight": grads[1],
        "gradient of bias": grads[2],
        "gradient of entries": grads[3][0],
    }


def _run(kind: Any, problem: Problem) -> Run:
    x, grad = learnable(problem["x"]), problem["grad"]
    groups, schedule = problem["groups"], (problem["temperature"], 1e-3, 1.0)
    size = len(problem["weight"]) // groups
    quantizer = kind(x.shape[-1], size, schedule, groups, grad.shape[-1])
    with torch.no_grad():
        quantizer.weight_proj.weight.copy_(problem["weight"])
        quantizer.weight_proj.bias.copy_(problem["bias"])
        quantizer.vars.copy_(problem["vars"])
    quantizer.to(x.device)
    linear = quantizer.weight_proj
    learnt = (x, linear.weight, linear.bias, quantizer.vars)
    given = (grad, problem["grad_perplexity"])

    def step():
        out = quantizer(x)
        grads = torch.autograd.grad((out["x"], out["prob_perplex"]), learnt, given)
        return out, grads

    def read(result):
        out, grads = result
        return _named(out["x"], out["code_perplexity"], out["prob_perplex"], grads)

    return Run(step, read)


def written_out(problem: Problem) -> Run:
    """Run the step without optimization: one-hot codes times codebooks."""
    x, groups = learnable(problem["x"]), problem["groups"]
    weight, bias = learnable(problem["weight"]), learnable(problem["bias"])
    entries = learnable(problem["vars"])
    tables = entries.view(groups, -1, entries.shape[-1])
    given = (rows(problem["grad"]), problem["grad_perplexity"])

    def step():
        logits = _logits(x, weight, bias, groups)
        with torch.no_grad():
            hard = F.one_hot(logits.argmax(-1), logits.shape[-1]).float()
            used = _perplexity(hard.mean(0))
        spread = _perplexity(logits.softmax(-1).mean(0))
        drawn = F.gumbel_softmax(logits, tau=problem["temperature"], hard=True)
        value = torch.einsum("ngv,gvd->ngd", drawn, tables).flatten(1)
        learnt = (x, weight, bias, entries)
        return value, used, spread, torch.autograd.grad((value, spread), learnt, given)

    return Run(step, lambda result: _named(*result))


def floor_step(problem: Problem) -> Callable[[], Any]:
    """Return the lower bound: matrix products, an argmax, a gather and its gradient."""
    x, weight, groups = rows(problem["x"]), problem["weight"], problem["groups"]
    grad = rows(problem["grad"]).unflatten(1, (groups, -1)).transpose(0, 1).contiguous()
    tables = problem["vars"].view(groups, -1, problem["vars"].shape[-1])

    def step():
        logits = scores(x, weight)
        codes = logits.unflatten(1, (groups, -1)).argmax(-1).t()
        value = [table[code] for table, code in zip(tables, codes, strict=True)]
        moved = torch.zeros_like(tables)
        for group in range(groups):
            moved[group].index_add_(0, codes[group], grad[group])
        back = torch.bmm(grad, tables.transpose(1, 2))
        return value, moved, back, scores(logits.t(), x.t()), scores(logits, weight.t())

    return step


CASE = Case(
    name="gumbel",
    title="training step of ({batch}, {frames}, {dim}), {groups} groups of "
    "{codebook_size} to {vq_dim}",
    sizes={
        "batch": 8,
        "frames": 750,
        "dim": 512,
        "groups": 2,
        "codebook_size": 320,
        "vq_dim": 256,
    },
    quick={
        "batch": 2,
        "frames": 20,
        "dim": 16,
        "groups": 2,
        "codebook_size": 12,
        "vq_dim": 8,
    },
    problem=problem,
    reference=reference,
    contenders=(
        *drop_in_and_original(f"{_MODULE}.GumbelVectorQuantizer", _run),
        plain("plain einsum", written_out),
        floor(floor_step),
    ),
    floor="the product for the logits, its two gradients and that of the sampled "
    "vectors; the argmax; the gather of the vectors and the sum of its gradient",
    checks=checks,
)
