"""PIQ's codebook, partitioned among classes: forward and backward."""

from collections.abc import Callable
from typing import Any

import torch

from sb_espnet_vq.bench.case import Case, Problem, Results, Run, Sizes
from sb_espnet_vq.bench.contenders import drop_in_and_original, floor
from sb_espnet_vq.bench.tensors import learnable, rows
from sb_espnet_vq.quantizers.class_partitioned import class_of_keys


def problem(sizes: Sizes) -> Problem:
    """Draw keys (codebook vectors), and frames close to keys of their class."""
    torch.manual_seed(0)
    batch, dim, classes = sizes["batch"], sizes["dim"], sizes["classes"]
    keys = torch.randn(sizes["codebook_size"], dim)
    owners = class_of_keys(len(keys), classes, 0).long()
    labels = torch.randint(classes, (batch,))
    shape = batch, dim, sizes["height"], sizes["width"]
    z = torch.randn(shape) * 0.5
    for item, label in enumerate(labels):
        (allowed,) = (owners == label).nonzero(as_tuple=True)
        chosen = allowed[torch.randint(len(allowed), shape[2:])]
        z[item] += keys[chosen].movedim(-1, 0)
    return {
        "z": z,
        "keys": keys,
        "labels": labels,
        "owners": owners,
        "classes": classes,
        "grad": torch.randn(shape),
        "grad_bar": torch.randn(shape),
    }


def reference(problem: Problem) -> Results:
    """Compute all distances in float64; those to keys of other classes are infinite."""
    z = problem["z"].double().movedim(1, -1)
    keys = learnable(problem["keys"].double())
    codes = []
    for item, label in zip(z, problem["labels"], strict=True):
        distance = torch.cdist(rows(item), keys.detach())
        codes.append(distance.masked_fill(problem["owners"] != label, torch.inf))
    value = keys[torch.cat(codes).argmin(1)]
    # The gradient of the first output is passed to z unchanged (straight-through).
    back = rows(problem["grad_bar"].movedim(1, -1)).double()
    (grad_keys,) = torch.autograd.grad(value, keys, back)
    return {
        "z_q": value.detach(),
        "z_q_bar": value.detach(),
        "gradient of z": rows(problem["grad"].movedim(1, -1)),
        "gradient of keys": grad_keys,
    }


def _read(result) -> Results:
    (z_q, z_q_bar), (grad_z, grad_keys) = result
    return {
        "z_q": rows(z_q.movedim(1, -1)),
        "z_q_bar": rows(z_q_bar.movedim(1, -1)),
        "gradient of z": rows(grad_z.movedim(1, -1)),
        "gradient of keys": grad_keys,
    }


def _run(kind: Any, problem: Problem) -> Run:
    z, labels = learnable(problem["z"]), problem["labels"]
    dictionary = kind(*problem["keys"].shape, numclasses=problem["classes"])
    dictionary.load_state_dict({"embedding.weight": problem["keys"]})
    dictionary.to(z.device)
    learnt = (z, dictionary.embedding.weight)
    given = (problem["grad"], problem["grad_bar"])

    def step():
        out = dictionary.straight_through(z, labels)
        return out, torch.autograd.grad(out, learnt, given)

    return Run(step, _read)


def floor_step(problem: Problem) -> Callable[[], Any]:
    """Return the lower bound: products with available keys, argmax and outputs."""
    z, keys = problem["z"].flatten(2), problem["keys"]
    owners, labels = problem["owners"].to(z.device), problem["labels"]
    width = int(torch.bincount(owners).min())
    first = torch.searchsorted(owners, labels)
    allowed = first[:, None] + torch.arange(width, device=z.device)
    back = problem["grad_bar"].flatten(2).transpose(1, 2)

    def step():
        near = keys[allowed]
        best = torch.bmm(near, z).max(1).indices
        codes = allowed.gather(1, best).flatten()
        value = keys[codes]
        moved = torch.zeros_like(keys).index_add_(0, codes, back.flatten(0, 1))
        return value, value.clone(), moved

    return step


CASE = Case(
    name="class_partitioned",
    title="straight_through, forward and backward, of ({batch}, {dim}, {height}, "
    "{width}), {codebook_size} keys of {classes} classes",
    sizes={
        "batch": 16,
        "dim": 256,
        "height": 26,
        "width": 32,
        "codebook_size": 1024,
        "classes": 50,
    },
    quick={
        "batch": 3,
        "dim": 16,
        "height": 4,
        "width": 5,
        "codebook_size": 40,
        "classes": 4,
    },
    problem=problem,
    reference=reference,
    contenders=(
        *drop_in_and_original("speechbrain.lobes.models.PIQ.VQEmbedding", _run),
        floor(floor_step),
    ),
    floor="the products with the keys of each class and the argmax; both outputs "
    "written and the gradient of the keys summed",
)
