"""Checks of training under DistributedDataParallel and FSDP on two ranks."""

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from sb_espnet_vq.testing.helpers import close, frames, labels_for, make, some_mask
from sb_espnet_vq.testing.ranks import (
    Cases,
    join_ranks,
    load_results,
    save_result,
    spawn_ranks,
)
from sb_espnet_vq.testing.registry import contract_check

_BATCH, _TIME, _STEPS = 4, 30, 3
_WRAPPERS = ("ddp", "ddp static_graph", "ddp no_sync", "ddp checkpointed", "fsdp")


@contract_check(slow=True, cpu_only=True)
def trains_in_wrappers_on_ranks(name, options):
    """DDP without find_unused_parameters, and FSDP, train like one process.

    Also DDP with static_graph, with accumulation by no_sync and with activation
    checkpointing. Each step uses another number of codebooks.
    """
    compare_wrappers([(name, options)])


def compare_wrappers(cases: Cases) -> None:
    """Check several quantizers in one pair of processes."""
    with tempfile.TemporaryDirectory() as folder:
        spawn_ranks(_rank_main, cases, Path(folder))
        for case, (name, options) in enumerate(cases):
            q = make(name, options)
            draws = q.draws_codes or q.adds_noise
            for wrapper in _WRAPPERS:
                first, second = load_results(Path(folder), case, wrapper)
                expected = _train(name, options, wrapper, 0, 1)
                for key, value in first.items():
                    what = f"{name} {options or ''} in {wrapper}: {key}"
                    close(second[key], value, f"{what} on rank 1 against rank 0")
                    if not draws:
                        close(value, expected[key], f"{what} against one process")


class _Model(nn.Module):
    """A linear layer and a quantizer, so that the model always has parameters."""

    def __init__(self, quantizer, checkpointed):
        super().__init__()
        self.layer = nn.Linear(quantizer.dim, quantizer.dim)
        self.quantizer, self.checkpointed = quantizer, checkpointed

    def forward(self, x, mask, labels, n_codebooks):
        x = self.layer(x)
        given = {"mask": mask, "labels": labels}
        if self.quantizer.n_codebooks > 1:
            given["n_codebooks"] = n_codebooks

        def run(x):
            out = self.quantizer(x, **given)
            return out.quantized, out.loss

        return checkpoint(run, x, use_reentrant=False) if self.checkpointed else run(x)


def _train(name, options, wrapper, rank, ranks) -> dict[str, Tensor]:
    """Train for some steps; return gradients of the last, parameters and buffers."""
    # In float64, so that the order of sums does not change codes.
    q = make(name, options).double()
    plain = _Model(q, "checkpointed" in wrapper).double()
    plain.layer.weight.data.copy_(torch.eye(q.dim))
    model: Any = _wrapped(plain, wrapper) if ranks > 1 else plain
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    grads: dict[str, Tensor] = {}
    for step in range(_STEPS):
        optimizer.zero_grad()
        number = 1 + step % q.n_codebooks
        if "no_sync" in wrapper:
            with model.no_sync() if ranks > 1 else nullcontext():
                _backward(model, q, 10 + step, number, rank, ranks)
        _backward(model, q, step, number, rank, ranks)
        grads = {f"grad {k}": _gradient(p) for k, p in plain.named_parameters()}
        optimizer.step()
    parameters = {f"parameter {k}": _whole(p) for k, p in plain.named_parameters()}
    return grads | parameters | {k: b.clone() for k, b in q.named_buffers()}


def _backward(model, q, seed, number, rank, ranks) -> None:
    x = frames(q, _BATCH, _TIME, seed=seed).double()
    weight = frames(q, _BATCH, _TIME, seed=seed + 50).double()
    mask, labels = some_mask(_BATCH, _TIME), labels_for(q, _BATCH)
    if ranks > 1:
        part = slice(0, 3) if rank == 0 else slice(3, _BATCH)
        x, mask, weight = x[part], mask[part], weight[part]
        labels = None if labels is None else labels[part]
    torch.manual_seed(70 + seed + 1000 * rank)
    quantized, loss = model(x, mask, labels, number)
    # Scaled so that the mean over ranks is the sum over the whole batch.
    (loss + ranks * (quantized * weight).sum()).backward()


def _wrapped(model, wrapper):
    if wrapper == "fsdp":
        return fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    return DistributedDataParallel(model, static_graph="static_graph" in wrapper)


def _gradient(parameter: Tensor) -> Tensor:
    """Return the gradient; zeros for a parameter that this step did not use."""
    # On several ranks, unused parameters get zeros, since DDP waits for each.
    given = parameter.grad
    return _whole(torch.zeros_like(parameter) if given is None else given)


def _whole(x: Tensor) -> Tensor:
    """Gather what FSDP shards over ranks."""
    return (x.full_tensor() if isinstance(x, DTensor) else x).detach().clone()


def _rank_main(rank: int, cases: Cases, folder: Path) -> None:
    join_ranks(rank, folder)
    for case, (name, options) in enumerate(cases):
        for wrapper in _WRAPPERS:
            result = _train(name, options, wrapper, rank, 2)
            save_result(folder, case, wrapper, rank, result)
    dist.destroy_process_group()
