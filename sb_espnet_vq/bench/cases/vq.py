"""Training step of one EMA codebook."""

from collections.abc import Callable
from typing import Any

import torch

from sb_espnet_vq.bench.case import Case, Problem, Results, Run, Sizes
from sb_espnet_vq.bench.cases.averages import DECAY, averaged_codebook, initial_state
from sb_espnet_vq.bench.cases.floors import products_with_argmax
from sb_espnet_vq.bench.contenders import floor, ours, vqp
from sb_espnet_vq.bench.tensors import learnable, rows


def problem(sizes: Sizes) -> Problem:
    """Draw a codebook, and frames close to its vectors."""
    torch.manual_seed(0)
    table = torch.randn(sizes["codebook_size"], sizes["dim"])
    x = table[torch.randint(len(table), (sizes["batch"], sizes["frames"]))]
    x = x + 0.5 * torch.randn_like(x)
    return {"x": x, "table": table, "grad": torch.randn_like(x)}


def reference(problem: Problem) -> Results:
    """Find the nearest codes and update the codebook, in float64."""
    x, table = rows(problem["x"]).double(), problem["table"].double()
    codes = torch.cdist(x, table).argmin(1)
    away = x - table[codes]
    return {
        "codes": codes,
        "quantized": table[codes],
        "loss": away.square().mean(),
        "gradient of x": rows(problem["grad"]).double() + 2 * away / away.numel(),
        "codebook": averaged_codebook(table, x, codes),
    }


def _train(quantizer: torch.nn.Module, problem: Problem) -> Run:
    quantizer.to(problem["x"].device)
    x, grad = learnable(problem["x"]), problem["grad"]
    one = grad.new_ones(())

    def step():
        quantized, codes, loss, *_ = quantizer(x)
        outputs = (quantized, loss.sum())
        (gradient,) = torch.autograd.grad(outputs, x, (grad, one))
        return quantized, codes, loss, gradient

    def read(result):
        quantized, codes, loss, gradient = result
        embed = quantizer.get_buffer("_codebook.embed")
        return {
            "codes": codes.flatten(),
            "quantized": rows(quantized),
            "loss": loss.detach().sum(),
            "gradient of x": rows(gradient),
            "codebook": rows(embed).clone(),
        }

    return Run(step, read)


def _run(kind: Any, problem: Problem) -> Run:
    table = problem["table"]
    quantizer = kind(
        table.shape[1],
        len(table),
        decay=DECAY,
        kmeans_init=False,
        threshold_ema_dead_code=0,
    )
    quantizer._codebook.load_state_dict(initial_state(table))
    return _train(quantizer, problem)


def _run_vqp(kind: Any, problem: Problem) -> Run:
    table = problem["table"]
    quantizer = kind(
        dim=table.shape[1],
        codebook_size=len(table),
        decay=DECAY,
        rotation_trick=False,
    )
    quantizer._codebook.embed.copy_(table[None])
    quantizer._codebook.embed_avg.copy_(table[None])
    return _train(quantizer, problem)


def floor_step(problem: Problem) -> Callable[[], Any]:
    """Return the lower bound: the product with the codebook, output and gradient."""
    frames = rows(problem["x"])

    def step():
        codes = products_with_argmax(frames, problem["table"])
        return codes, problem["x"].clone(), problem["grad"].clone()

    return step


SIZES = {"batch": 16, "frames": 150, "dim": 256, "codebook_size": 1024}
QUICK = {"batch": 2, "frames": 20, "dim": 16, "codebook_size": 32}
WORK = "({batch}, {frames}, {dim}), {codebook_size} codes"


CASE = Case(
    name="vq",
    title=f"training step of {WORK}",
    sizes=SIZES,
    quick=QUICK,
    problem=problem,
    reference=reference,
    contenders=(
        ours("sb_espnet_vq.quantizers.vq.VQ", _run),
        vqp("VectorQuantize", _run_vqp),
        floor(floor_step),
    ),
    floor="the product with the codebook and the argmax; the output and the gradient "
    "written once",
)
