"""Lookup-free quantization with its entropy loss, forward and backward."""

from typing import Any

from sb_espnet_vq.bench.case import Case, Problem, Results, Run, Sizes
from sb_espnet_vq.bench.cases import signs
from sb_espnet_vq.bench.contenders import floor, ours, vqp


def problem(sizes: Sizes) -> Problem:
    """Draw frames that are small enough for a soft assignment."""
    drawn = signs.problem(sizes)
    return {**drawn, "x": 0.03 * drawn["x"]}


def reference(problem: Problem) -> Results:
    """Compute signs and the entropy loss, in float64."""
    return signs.reference_of(problem, lambda x: x, 1.0)


def _run(kind: Any, problem: Problem) -> Run:
    quantizer = kind(problem["x"].shape[-1], commitment_weight=0.0)
    return signs.run_module(quantizer, problem)


def _run_vqp(kind: Any, problem: Problem) -> Run:
    return signs.run_module(kind(dim=problem["x"].shape[-1]), problem)


CASE = Case(
    name="lfq",
    title="forward and backward of ({batch}, {frames}, {bits}), {bits} bits",
    sizes=signs.SIZES,
    quick=signs.QUICK,
    problem=problem,
    reference=reference,
    contenders=(
        ours("sb_espnet_vq.quantizers.lfq.LFQ", _run),
        vqp("LFQ", _run_vqp),
        floor(signs.floor_step),
    ),
    floor=signs.FLOOR,
    tolerance=signs.TOLERANCE,
)
