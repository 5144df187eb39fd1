"""One codebook of moving averages, a training step."""

import torch

from sb_espnet_vq.bench.case import (
    FLOOR,
    OURS,
    VQP,
    VQP_MODULE,
    Case,
    Contender,
    Problem,
    Results,
    Run,
    Sizes,
    learnable,
    rows,
)
from sb_espnet_vq.bench.cases.averages import DECAY, averaged_codebook
from sb_espnet_vq.bench.cases.floors import nothing_to_compare, products_with_argmax


def problem(sizes: Sizes) -> Problem:
    """Draw a codebook, and frames near its entries."""
    torch.manual_seed(0)
    table = torch.randn(sizes["codebook_size"], sizes["dim"])
    x = table[torch.randint(len(table), (sizes["batch"], sizes["frames"]))]
    x = x + 0.5 * torch.randn_like(x)
    return {"x": x, "table": table, "grad": torch.randn_like(x)}


def reference(problem: Problem) -> Results:
    """Take the nearest entry in float64."""
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


def ours(problem: Problem) -> Run:
    """Build our family."""
    from sb_espnet_vq.quantizers.vq import VQ

    table = problem["table"]
    quantizer = VQ(
        table.shape[1],
        len(table),
        decay=DECAY,
        kmeans_init=False,
        threshold_ema_dead_code=0,
    )
    state = {"inited": torch.ones(1), "cluster_size": torch.ones(len(table))}
    state |= {"embed": table, "embed_avg": table}
    quantizer._codebook.load_state_dict(state)
    return _train(quantizer, problem)


def vqp(problem: Problem) -> Run:
    """Build vector-quantize-pytorch's class."""
    from vector_quantize_pytorch import VectorQuantize

    table = problem["table"]
    quantizer = VectorQuantize(
        dim=table.shape[1],
        codebook_size=len(table),
        decay=DECAY,
        rotation_trick=False,
    )
    quantizer._codebook.embed.copy_(table[None])
    quantizer._codebook.embed_avg.copy_(table[None])
    return _train(quantizer, problem)


def floor(problem: Problem) -> Run:
    """The product with the codebook, the output and the gradient written."""
    frames = rows(problem["x"])

    def step():
        codes = products_with_argmax(frames, problem["table"])
        return codes, problem["x"].clone(), problem["grad"].clone()

    return Run(step, nothing_to_compare)


CASE = Case(
    name="vq",
    title="training step of ({batch}, {frames}, {dim}), {codebook_size} codes",
    sizes={"batch": 16, "frames": 150, "dim": 256, "codebook_size": 1024},
    quick={"batch": 2, "frames": 20, "dim": 16, "codebook_size": 32},
    problem=problem,
    reference=reference,
    contenders=(
        Contender(OURS, "ours", ours),
        Contender(VQP, "vector-quantize-pytorch", vqp, VQP_MODULE),
        Contender(FLOOR, "lower bound", floor),
    ),
    floor="the product with the codebook and the argmax; the output and the gradient "
    "written once",
)
