"""Encoding by residual vector quantization."""

from collections.abc import Callable
from typing import Any

import torch

from sb_espnet_vq.bench.case import Case, Problem, Results, Run
from sb_espnet_vq.bench.cases import rvq
from sb_espnet_vq.bench.cases.floors import products_with_argmax
from sb_espnet_vq.bench.contenders import drop_in_and_original, faiss, floor, vqp
from sb_espnet_vq.bench.tensors import rows


def reference(problem: Problem) -> Results:
    """Find the nearest code of each level in turn, in float64."""
    return {"codes": rvq.reference(problem)["codes"]}


def _run(kind: Any, problem: Problem) -> Run:
    quantizer = rvq.build_class(kind, problem).eval()

    @torch.no_grad()
    def step():
        return quantizer.encode(problem["x"], rvq.FRAME_RATE)

    return Run(step, lambda codes: {"codes": codes.movedim(0, -1).flatten(0, 1)})


def _run_vqp(kind: Any, problem: Problem) -> Run:
    """Build vector-quantize-pytorch's class for encoding."""
    quantizer = rvq.build_vqp(kind, problem).eval()

    @torch.no_grad()
    def step():
        return quantizer(problem["x"].transpose(1, 2))[1]

    return Run(step, lambda codes: {"codes": rows(codes)})


def _run_faiss(kind: Any, problem: Problem) -> Run:
    """Build an exact faiss index of each level."""
    tables = [table.numpy() for table in problem["tables"]]
    indices = [kind(table.shape[1]) for table in tables]
    for index, table in zip(indices, tables, strict=True):
        index.add(table)

    def step():
        residual = rows(problem["x"].transpose(1, 2)).numpy().copy()
        codes = []
        for index, table in zip(indices, tables, strict=True):
            found = index.search(residual, 1)[1][:, 0]
            residual -= table[found]
            codes.append(torch.from_numpy(found))
        return torch.stack(codes, -1)

    return Run(step, lambda codes: {"codes": codes})


def floor_step(problem: Problem) -> Callable[[], Any]:
    """Return the lower bound: the products with all codebooks and the argmax."""
    frames, tables = rows(problem["x"].transpose(1, 2)), problem["tables"]

    def step():
        return [products_with_argmax(frames, table) for table in tables]

    return step


CASE = Case(
    name="rvq_encode",
    title=f"codes of {rvq.WORK}",
    sizes=rvq.SIZES,
    quick=rvq.QUICK,
    problem=rvq.problem,
    reference=reference,
    contenders=(
        *drop_in_and_original(rvq.ESPNET, _run),
        vqp("ResidualVQ", _run_vqp),
        faiss("IndexFlatL2", _run_faiss),
        floor(floor_step),
    ),
    floor="the products with all codebooks and the argmax, nothing else",
)
