"""All benchmark cases, one file per workload."""

from sb_espnet_vq.bench.case import Case
from sb_espnet_vq.bench.cases import (
    bsq,
    class_partitioned,
    entropy_vq,
    fsq,
    gumbel,
    lfq,
    random_projection,
    residual,
    rvq,
    rvq_encode,
    simvq,
    vq,
)

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        random_projection.CASE,
        bsq.CASE,
        lfq.CASE,
        fsq.CASE,
        residual.CASE,
        gumbel.CASE,
        class_partitioned.CASE,
        rvq.CASE,
        rvq_encode.CASE,
        vq.CASE,
        simvq.CASE,
        entropy_vq.CASE,
    )
}
