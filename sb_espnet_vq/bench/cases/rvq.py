"""Training step of residual vector quantization."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.bench.case import Case, Problem, Results, Run, Sizes
from sb_espnet_vq.bench.cases.averages import DECAY, averaged_codebook, initial_state
from sb_espnet_vq.bench.cases.floors import products_with_argmax
from sb_espnet_vq.bench.contenders import drop_in_and_original, floor, vqp
from sb_espnet_vq.bench.tensors import learnable, rows

ESPNET = "espnet2.gan_codec.shared.quantizer.residual_vq.ResidualVectorQuantizer"
FRAME_RATE = 75


def problem(sizes: Sizes) -> Problem:
    """Draw codebooks of halving scale, and frames close to sums of their vectors."""
    torch.manual_seed(0)
    levels, size, dim = sizes["n_codebooks"], sizes["codebook_size"], sizes["dim"]
    halves = 0.5 ** torch.arange(levels)
    tables = torch.randn(levels, size, dim) * halves[:, None, None]
    batch, frames = sizes["batch"], sizes["frames"]
    x = torch.randn(batch, frames, dim) * 0.5**levels
    for table in tables:
        x += table[torch.randint(size, (batch, frames))]
    x = x.transpose(1, 2).contiguous()
    return {"x": x, "tables": tables, "grad": torch.randn_like(x)}


def reference(problem: Problem) -> Results:
    """Find the nearest code of each level in turn, in float64."""
    frames = rows(problem["x"].transpose(1, 2)).double()
    residual, codes, losses, codebooks = frames, [], [], []
    for table in problem["tables"].double():
        code = torch.cdist(residual, table).argmin(1)
        codebooks.append(averaged_codebook(table, residual, code))
        losses.append((residual - table[code]).square().mean())
        residual = residual - table[code]
        codes.append(code)
    return {
        "codes": torch.stack(codes, -1),
        "quantized": frames - residual,
        "loss": torch.stack(losses).mean(),
        "gradient of x": rows(problem["grad"].transpose(1, 2)).double()
        + _commitment_gradient(frames, problem["tables"].double(), codes),
        "codebooks": rows(torch.stack(codebooks)),
    }


def _commitment_gradient(frames: Tensor, tables: Tensor, codes: list) -> Tensor:
    # The input of each level is the frame minus a constant, so the gradients add up.
    total, residual = torch.zeros_like(frames), frames
    for table, code in zip(tables, codes, strict=True):
        residual = residual - table[code]
        total += 2 * residual / residual.numel() / len(tables)
    return total


def build_class(kind: Any, problem: Problem) -> Any:
    """Build ESPnet's class or ours with the problem's codebooks."""
    tables = problem["tables"]
    levels, size, dim = tables.shape
    # Implementations replace dead codes by different rules, so replacement is off.
    quantizer = kind(
        dimension=dim,
        codebook_dim=dim,
        n_q=levels,
        bins=size,
        decay=DECAY,
        kmeans_init=False,
        threshold_ema_dead_code=0,
    )
    state = {}
    for level, table in enumerate(tables):
        for name, value in initial_state(table).items():
            state[f"vq.layers.{level}._codebook.{name}"] = value
    quantizer.load_state_dict(state)
    return quantizer.to(tables.device)


def _run(kind: Any, problem: Problem) -> Run:
    quantizer = build_class(kind, problem)
    x, grad = learnable(problem["x"]), problem["grad"]
    one = grad.new_ones(())

    def step():
        out = quantizer(x, FRAME_RATE)
        (gradient,) = torch.autograd.grad((out[0], out[3]), x, (grad, one))
        return out, gradient

    def read(result):
        (quantized, codes, _, loss), gradient = result
        state = quantizer.state_dict()
        learnt = [value for name, value in state.items() if name.endswith(".embed")]
        return {
            "codes": codes.movedim(0, -1).flatten(0, 1),
            "quantized": rows(quantized.transpose(1, 2)),
            "loss": loss.detach(),
            "gradient of x": rows(gradient.transpose(1, 2)),
            "codebooks": torch.cat(learnt).clone(),
        }

    return Run(step, read)


def build_vqp(kind: Any, problem: Problem) -> Any:
    """Build vector-quantize-pytorch's class with the problem's codebooks."""
    levels, size, dim = problem["tables"].shape
    quantizer = kind(
        dim=dim,
        num_quantizers=levels,
        codebook_size=size,
        decay=DECAY,
        rotation_trick=False,
    )
    for layer, table in zip(quantizer.layers, problem["tables"], strict=True):
        layer._codebook.embed.copy_(table[None])
        layer._codebook.embed_avg.copy_(table[None])
    return quantizer.to(problem["tables"].device)


def _run_vqp(kind: Any, problem: Problem) -> Run:
    """Build vector-quantize-pytorch's class for training.

    Its gradient of x is not compared, since it adds that of each level to the next.
    """
    quantizer = build_vqp(kind, problem)
    x, grad = learnable(problem["x"]), problem["grad"].transpose(1, 2)
    one = grad.new_ones(())

    def step():
        quantized, codes, losses = quantizer(x.transpose(1, 2))
        loss = losses.mean()
        torch.autograd.grad((quantized, loss), x, (grad, one))
        return quantized, codes, loss

    def read(result):
        quantized, codes, loss = result
        return {
            "codes": rows(codes),
            "quantized": rows(quantized),
            "loss": loss.detach(),
            "codebooks": rows(quantizer.codebooks).clone(),
        }

    return Run(step, read)


def floor_step(problem: Problem) -> Callable[[], Any]:
    """Return the lower bound: products with all codebooks, output and gradient."""
    frames, tables = rows(problem["x"].transpose(1, 2)), problem["tables"]

    def step():
        codes = [products_with_argmax(frames, table) for table in tables]
        return codes, problem["x"].clone(), problem["grad"].clone()

    return step


SIZES = {
    "batch": 16,
    "dim": 256,
    "frames": 150,
    "n_codebooks": 8,
    "codebook_size": 1024,
}
QUICK = {"batch": 2, "dim": 16, "frames": 20, "n_codebooks": 3, "codebook_size": 32}
WORK = "({batch}, {dim}, {frames}), {n_codebooks} codebooks of {codebook_size}"


CASE = Case(
    name="rvq",
    title=f"training step of {WORK}",
    sizes=SIZES,
    quick=QUICK,
    problem=problem,
    reference=reference,
    contenders=(
        *drop_in_and_original(ESPNET, _run),
        vqp("ResidualVQ", _run_vqp),
        floor(floor_step),
    ),
    floor="the products with all codebooks and the argmax; the output and the "
    "gradient written once",
)
