"""A codebook kept in even use by an entropy term, forward and backward."""

import torch
from torch import Tensor

from sb_espnet_vq.bench.case import (
    FLOOR,
    OURS,
    PLAIN,
    Case,
    Contender,
    Problem,
    Results,
    Run,
    Sizes,
    learnable,
    rows,
)
from sb_espnet_vq.bench.cases.floors import nothing_to_compare
from sb_espnet_vq.bench.cases.vq import problem as near_entries
from sb_espnet_vq.ops.scores import first_argmax, scores


def problem(sizes: Sizes) -> Problem:
    """Draw a codebook and frames near its entries, with a soft assignment."""
    return {**near_entries(sizes), "temperature": float(sizes["dim"])}


def _losses(x: Tensor, table: Tensor, temperature: float):
    """Compute all terms from a table of distances."""
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
    """Write the definition out in float64."""
    run = _written_out(problem, torch.float64)
    return run.read(run.step())


def plain(problem: Problem) -> Run:
    """Write the definition out, as one would at first."""
    return _written_out(problem, torch.float32)


def ours(problem: Problem) -> Run:
    """Build our class."""
    from sb_espnet_vq.nnet.quantisers import VectorQuantizer

    x, table = learnable(problem["x"]), problem["table"]
    quantizer = VectorQuantizer(len(table), table.shape[1], problem["temperature"])
    quantizer.load_state_dict({"codebook.weight": table})
    quantizer.to(x.device)
    weight = quantizer.codebook.weight
    return Run(lambda: _step(x, weight, lambda: quantizer(x), problem["grad"]), _read)


def floor(problem: Problem) -> Run:
    """The product to logits, the argmax, and the two products of its gradient."""
    frames, table = rows(problem["x"]), problem["table"]

    def step():
        logits = scores(frames, table)
        codes = first_argmax(logits)
        grads = scores(logits, table.t()), scores(logits.t(), frames.t())
        return codes, table[codes], grads

    return Run(step, nothing_to_compare)


CASE = Case(
    name="entropy_vq",
    title="forward and backward of ({batch}, {frames}, {dim}), {codebook_size} codes",
    sizes={"batch": 16, "frames": 150, "dim": 256, "codebook_size": 1024},
    quick={"batch": 2, "frames": 20, "dim": 16, "codebook_size": 32},
    problem=problem,
    reference=reference,
    contenders=(
        Contender(OURS, "ours", ours),
        Contender(PLAIN, "plain cdist", plain),
        Contender(FLOOR, "lower bound", floor),
    ),
    floor="the product to logits, the argmax and the two products of the gradient; "
    "the output written once",
)
