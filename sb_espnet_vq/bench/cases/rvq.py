"""Residual quantization: a training step, and encoding."""

from typing import Any

import torch
from torch import Tensor

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
    Sizes,
    learnable,
    rows,
)
from sb_espnet_vq.bench.cases.averages import DECAY, averaged_codebook
from sb_espnet_vq.bench.cases.floors import nothing_to_compare, products_with_argmax

_ESPNET = "espnet2.gan_codec.shared.quantizer.residual_vq"
_FRAME_RATE = 75


def problem(sizes: Sizes) -> Problem:
    """Draw codebooks, each half as large as the one before, and frames near sums."""
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
    """Take the nearest entry of each level in turn, in float64."""
    frames = rows(problem["x"].transpose(1, 2)).double()
    residual, codes, losses, codebooks = frames, [], [], []
    for table in problem["tables"].double():
        code = torch.cdist(residual, table).argmin(1)
        codebooks.append(averaged_codebook(table, residual, code))
        losses.append((residual - table[code]).square().mean())
        # The commitment of a level pulls its input towards its entry.
        residual = residual - table[code]
        codes.append(code)
    left = frames.clone().zero_()
    for level, code in enumerate(codes):
        left += problem["tables"][level].double()[code]
    return {
        "codes": torch.stack(codes, -1),
        "quantized": left,
        "loss": torch.stack(losses).mean(),
        "gradient of x": rows(problem["grad"].transpose(1, 2)).double()
        + _commitment_gradient(frames, problem["tables"].double(), codes),
        "codebooks": rows(torch.stack(codebooks)),
    }


def _commitment_gradient(frames: Tensor, tables: Tensor, codes: list) -> Tensor:
    total, residual = torch.zeros_like(frames), frames
    for table, code in zip(tables, codes, strict=True):
        residual = residual - table[code]
        total += 2 * residual / residual.numel() / len(tables)
    return total


def _build_class(family: type, problem: Problem) -> torch.nn.Module:
    tables = problem["tables"]
    levels, size, dim = tables.shape
    # Each has rules of its own for dead codes, so none is revived here.
    quantizer = family(
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
        prefix = f"vq.layers.{level}._codebook."
        state[prefix + "inited"] = torch.ones(1)
        state[prefix + "cluster_size"] = torch.ones(size)
        state[prefix + "embed"] = table
        state[prefix + "embed_avg"] = table
    quantizer.load_state_dict(state)
    return quantizer.to(tables.device)


def _train_class(family: type, problem: Problem) -> Run:
    quantizer = _build_class(family, problem)
    x, grad = learnable(problem["x"]), problem["grad"]
    one = grad.new_ones(())

    def step():
        out = quantizer(x, _FRAME_RATE)
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


def _encode_class(family: type, problem: Problem) -> Run:
    quantizer: Any = _build_class(family, problem).eval()

    @torch.no_grad()
    def step():
        return quantizer.encode(problem["x"], _FRAME_RATE)

    return Run(step, lambda codes: {"codes": codes.movedim(0, -1).flatten(0, 1)})


def ours(problem: Problem) -> Run:
    """Build our drop-in class, to train."""
    from sb_espnet_vq.gan_codec.shared.quantizer.residual_vq import (
        ResidualVectorQuantizer,
    )

    return _train_class(ResidualVectorQuantizer, problem)


def ours_encode(problem: Problem) -> Run:
    """Build our drop-in class, to encode."""
    from sb_espnet_vq.gan_codec.shared.quantizer.residual_vq import (
        ResidualVectorQuantizer,
    )

    return _encode_class(ResidualVectorQuantizer, problem)


def upstream(problem: Problem) -> Run:
    """Build ESPnet's class, to train."""
    from espnet2.gan_codec.shared.quantizer.residual_vq import ResidualVectorQuantizer

    return _train_class(ResidualVectorQuantizer, problem)


def upstream_encode(problem: Problem) -> Run:
    """Build ESPnet's class, to encode."""
    from espnet2.gan_codec.shared.quantizer.residual_vq import ResidualVectorQuantizer

    return _encode_class(ResidualVectorQuantizer, problem)


def _build_vqp(problem: Problem) -> Any:
    from vector_quantize_pytorch import ResidualVQ

    levels, size, dim = problem["tables"].shape
    quantizer = ResidualVQ(
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


def vqp(problem: Problem) -> Run:
    """Build vector-quantize-pytorch's class, to train.

    Its gradient of x is not compared: that of each level is added to the next.
    """
    quantizer = _build_vqp(problem)
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


def vqp_encode(problem: Problem) -> Run:
    """Build vector-quantize-pytorch's class, to encode."""
    quantizer = _build_vqp(problem).eval()

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
    """The products with all codebooks, the output and the gradient written."""
    frames, tables = rows(problem["x"].transpose(1, 2)), problem["tables"]

    def step():
        codes = [products_with_argmax(frames, table) for table in tables]
        return codes, problem["x"].clone(), problem["grad"].clone()

    return Run(step, nothing_to_compare)


def floor_encode(problem: Problem) -> Run:
    """The products with all codebooks, and nothing else."""
    frames, tables = rows(problem["x"].transpose(1, 2)), problem["tables"]

    def step():
        return [products_with_argmax(frames, table) for table in tables]

    return Run(step, nothing_to_compare)


_SIZES = {
    "batch": 16,
    "dim": 256,
    "frames": 150,
    "n_codebooks": 8,
    "codebook_size": 1024,
}
_QUICK = {"batch": 2, "dim": 16, "frames": 20, "n_codebooks": 3, "codebook_size": 32}
_WORK = "({batch}, {dim}, {frames}), {n_codebooks} codebooks of {codebook_size}"


def encode_reference(problem: Problem) -> Results:
    """Return the codes of `reference`."""
    return {"codes": reference(problem)["codes"]}


TRAIN = Case(
    name="rvq",
    title=f"training step of {_WORK}",
    sizes=_SIZES,
    quick=_QUICK,
    problem=problem,
    reference=reference,
    contenders=(
        Contender(OURS, "ours", ours),
        Contender(UPSTREAM, "ESPnet", upstream, _ESPNET),
        Contender(VQP, "vector-quantize-pytorch", vqp, VQP_MODULE),
        Contender(FLOOR, "floor", floor),
    ),
    floor="the products with all codebooks and the argmax; the output and the "
    "gradient written once",
)
ENCODE = Case(
    name="rvq_encode",
    title=f"codes of {_WORK}",
    sizes=_SIZES,
    quick=_QUICK,
    problem=problem,
    reference=encode_reference,
    contenders=(
        Contender(OURS, "ours", ours_encode),
        Contender(UPSTREAM, "ESPnet", upstream_encode, _ESPNET),
        Contender(VQP, "vector-quantize-pytorch", vqp_encode, VQP_MODULE),
        Contender(FAISS, "faiss IndexFlatL2", exact_indices, "faiss", on_cuda=False),
        Contender(FLOOR, "floor", floor_encode),
    ),
    floor="the products with all codebooks and the argmax, nothing else",
)
