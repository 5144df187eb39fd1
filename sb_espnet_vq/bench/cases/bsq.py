"""Binary spherical quantization with its entropy loss, forward and backward."""

from typing import Any

import torch.nn.functional as F

from sb_espnet_vq.bench.case import Case, Problem, Results, Run
from sb_espnet_vq.bench.cases import signs
from sb_espnet_vq.bench.contenders import drop_in_and_original, floor, vqp

_MODULE = "speechbrain.lobes.models.bsq"


def reference(problem: Problem) -> Results:
    """Compute the signs of unit vectors and the loss, in float64."""
    magnitude = problem["x"].shape[-1] ** -0.5
    return signs.reference_of(problem, lambda x: F.normalize(x, dim=-1), magnitude)


def _run(kind: Any, problem: Problem) -> Run:
    return signs.run_module(kind(problem["x"].shape[-1]), problem)


def _run_vqp(kind: Any, problem: Problem) -> Run:
    return signs.run_module(kind(dim=problem["x"].shape[-1], spherical=True), problem)


CASE = Case(
    name="bsq",
    title="forward and backward of ({batch}, {frames}, {bits}), {bits} bits",
    sizes=signs.SIZES,
    quick=signs.QUICK,
    problem=signs.problem,
    reference=reference,
    contenders=(
        *drop_in_and_original(f"{_MODULE}.BinarySphericalQuantizer", _run),
        vqp("LFQ", _run_vqp, "LFQ"),
        floor(signs.floor_step),
    ),
    floor=signs.FLOOR,
    tolerance=signs.TOLERANCE,
)
