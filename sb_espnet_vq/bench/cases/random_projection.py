"""Forward of the random-projection quantizer of BEST-RQ."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from sb_espnet_vq.bench.case import Case, Problem, Results, Run, Sizes
from sb_espnet_vq.bench.cases.floors import products_with_argmax
from sb_espnet_vq.bench.contenders import drop_in_and_original, faiss, floor, vqp
from sb_espnet_vq.ops.scores import scores

_MODULE = "speechbrain.nnet.quantisers"


def problem(sizes: Sizes) -> Problem:
    """Draw frames, a projection and a codebook."""
    torch.manual_seed(0)
    x = torch.randn(sizes["batch"], sizes["frames"], sizes["dim"])
    projection = torch.nn.init.xavier_uniform_(
        torch.empty(sizes["dim"], sizes["code_dim"])
    )
    codebook = F.normalize(torch.randn(sizes["codebook_size"], sizes["code_dim"]))
    return {"x": x, "projection": projection, "codebook": codebook}


def reference(problem: Problem) -> Results:
    """Compute distances on the unit sphere in float64."""
    x = problem["x"].double() @ problem["projection"].double()
    table = problem["codebook"].double()
    frames = F.normalize(x, dim=-1).flatten(0, 1)
    codes = [torch.cdist(tile, table).argmin(1) for tile in frames.split(512)]
    return {"codes": torch.cat(codes)}


def _codes(result) -> Results:
    return {"codes": result.flatten()}


def _run(kind: Any, problem: Problem) -> Run:
    projection, codebook = problem["projection"], problem["codebook"]
    quantizer = kind(*projection.shape, len(codebook)).to(codebook.device)
    quantizer.load_state_dict({"P": projection, "CB": codebook})
    return Run(lambda: quantizer(problem["x"]), _codes)


def _run_vqp(kind: Any, problem: Problem) -> Run:
    """Build vector-quantize-pytorch's class, without its input normalization."""
    projection, codebook = problem["projection"], problem["codebook"]
    quantizer = kind(
        dim=len(projection),
        codebook_dim=codebook.shape[1],
        codebook_size=len(codebook),
        norm=False,
    ).to(codebook.device)
    quantizer.rand_projs.copy_(projection[None])
    quantizer.vq._codebook.embed.copy_(codebook[None])
    return Run(lambda: quantizer(problem["x"]), _codes)


def _run_faiss(kind: Any, problem: Problem) -> Run:
    """Build an exact faiss index of the codebook."""
    x, projection = problem["x"], problem["projection"]
    index = kind(projection.shape[1])
    index.add(problem["codebook"].numpy())

    def step():
        return index.search((x.flatten(0, 1) @ projection).numpy(), 1)[1]

    return Run(step, lambda found: {"codes": torch.from_numpy(found).flatten()})


def floor_step(problem: Problem) -> Callable[[], Any]:
    """Return the lower bound: two products and the argmax, in tiles."""

    def step():
        x = scores(problem["x"].flatten(0, 1), problem["projection"].t())
        return products_with_argmax(x, problem["codebook"])

    return step


CASE = Case(
    name="random_projection",
    title="forward of ({batch}, {frames}, {dim}), {codebook_size} codes of {code_dim}",
    sizes={
        "batch": 4,
        "frames": 400,
        "dim": 320,
        "code_dim": 16,
        "codebook_size": 8192,
    },
    quick={"batch": 2, "frames": 20, "dim": 16, "code_dim": 8, "codebook_size": 64},
    problem=problem,
    reference=reference,
    contenders=(
        *drop_in_and_original(f"{_MODULE}.RandomProjectionQuantizer", _run),
        vqp("RandomProjectionQuantizer", _run_vqp),
        faiss("IndexFlatIP", _run_faiss),
        floor(floor_step),
    ),
    floor="the projection, the product with the codebook and the argmax, in tiles",
)
