"""Residual quantization, encoding alone."""

import torch

from sb_espnet_vq.bench.case import (
    FAISS,
    FLOOR,
    OURS,
    UPSTREAM,
    VQP,
    VQP_MODULE,
    Case,
    Contender,
    Problem,
    Results,
    Run,
    rows,
)
from sb_espnet_vq.bench.cases import rvq
from sb_espnet_vq.bench.cases.floors import nothing_to_compare, products_with_argmax


def reference(problem: Problem) -> Results:
    """Take the nearest entry of each level in turn, in float64."""
    return {"codes": rvq.reference(problem)["codes"]}


def _encode_class(family: type, problem: Problem) -> Run:
    quantizer = rvq.build_class(family, problem).eval()

    @torch.no_grad()
    def step():
        return quantizer.encode(problem["x"], rvq.FRAME_RATE)

    return Run(step, lambda codes: {"codes": codes.movedim(0, -1).flatten(0, 1)})


def ours(problem: Problem) -> Run:
    """Build our drop-in class, to encode."""
    from sb_espnet_vq.gan_codec.shared.quantizer.residual_vq import (
        ResidualVectorQuantizer,
    )

    return _encode_class(ResidualVectorQuantizer, problem)


def upstream(problem: Problem) -> Run:
    """Build ESPnet's class, to encode."""
    from espnet2.gan_codec.shared.quantizer.residual_vq import ResidualVectorQuantizer

    return _encode_class(ResidualVectorQuantizer, problem)


def vqp(problem: Problem) -> Run:
    """Build vector-quantize-pytorch's class, to encode."""
    quantizer = rvq.build_vqp(problem).eval()

    @torch.no_grad()
    def step():
        return quantizer(problem["x"].transpose(1, 2))[1]

    return Run(step, lambda codes: {"codes": rows(codes)})


def exact_indices(problem: Problem) -> Run:
    """Build an exact faiss index of each level."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    tables = [table.numpy() for table in problem["tables"]]
    indices = [faiss.IndexFlatL2(table.shape[1]) for table in tables]
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


def floor(problem: Problem) -> Run:
    """The products with all codebooks, and nothing else."""
    frames, tables = rows(problem["x"].transpose(1, 2)), problem["tables"]

    def step():
        return [products_with_argmax(frames, table) for table in tables]

    return Run(step, nothing_to_compare)


CASE = Case(
    name="rvq_encode",
    title=f"codes of {rvq.WORK}",
    sizes=rvq.SIZES,
    quick=rvq.QUICK,
    problem=rvq.problem,
    reference=reference,
    contenders=(
        Contender(OURS, "ours", ours),
        Contender(UPSTREAM, "ESPnet", upstream, rvq.ESPNET),
        Contender(VQP, "vector-quantize-pytorch", vqp, VQP_MODULE),
        Contender(FAISS, "faiss IndexFlatL2", exact_indices, "faiss", on_cuda=False),
        Contender(FLOOR, "lower bound", floor),
    ),
    floor="the products with all codebooks and the argmax, nothing else",
)
