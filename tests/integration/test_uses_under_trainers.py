"""Pipelines under activation checkpointing, and under DDP on two ranks."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import uses
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from sb_espnet_vq import list_quantizers

CELLS = [(r, f) for r in uses.USES for f in list_quantizers()]
every_cell = pytest.mark.parametrize(("use", "quantizer_name"), CELLS)


class Pipeline(nn.Module):
    """A layer, an adapter with a quantizer, and a layer; returns the task's loss."""

    def __init__(self, use: str, quantizer_name: str):
        super().__init__()
        module = uses.load(use, quantizer_name)
        wraps = use == "contrastive"
        self.use, self.module = use, uses.pipeline_form(module) if wraps else module
        width = uses.WIDTH
        if wraps:
            self.module.quantiser.update_temp(1)  # the task sets it once more
        self.before = nn.Linear(width, width)
        # The contrastive task is a loss on the quantizer's own output.
        self.after = None if wraps else nn.Linear(width, 16)
        self.double()  # so that sums in another order agree

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return uses.task_loss(self.use, self.module, x, self.before, self.after)


def train(pipeline: nn.Module, call, steps: int = 3) -> dict[str, torch.Tensor]:
    """Return gradients of the last step, and the state after it, in float64."""
    optimizer = torch.optim.SGD(pipeline.parameters(), lr=0.01)
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        call(uses.batch().double()).backward()
        optimizer.step()
    grads = {
        f"gradient of {name}": parameter.grad.clone()
        for name, parameter in pipeline.named_parameters()
        if parameter.grad is not None
    }
    return grads | dict(uses.tensors(pipeline))


@pytest.mark.parametrize("reentrant", [True, False])
@every_cell
def test_checkpointing_changes_nothing(use, quantizer_name, reentrant):
    results = []
    for checkpointed in (True, False):
        pipeline = Pipeline(use, quantizer_name).train()

        def call(x, pipeline=pipeline, checkpointed=checkpointed):
            if not checkpointed:
                return pipeline(x)
            x.requires_grad_()  # reentrant checkpointing needs one input that does
            return checkpoint(pipeline, x, use_reentrant=reentrant)

        results.append(train(pipeline, call))
    assert results[0].keys() == results[1].keys()
    for name, value in results[1].items():
        torch.testing.assert_close(results[0][name], value, msg=name)


@every_cell
def test_frozen_it_learns_nothing(use, quantizer_name):
    pipeline = Pipeline(use, quantizer_name).train()
    train(pipeline, pipeline, 1)
    # SpeechBrain's wrapper knows of parameters only.
    adapter = getattr(pipeline.module, "quantiser", pipeline.module)
    adapter.requires_grad_(False)
    before = dict(uses.tensors(adapter))
    train(pipeline, pipeline, 2)
    after = dict(uses.tensors(adapter))
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("frozen", ["true", "false"])
def test_the_contrastive_default_can_be_frozen(frozen):
    module = uses.load("contrastive", "gumbel", f"{{frozen: {frozen}}}")
    default = uses.load("contrastive")
    assert module.state_dict().keys() == default.state_dict().keys()
    learns = [p.requires_grad for p in default.parameters()]
    expected = [False] * len(learns) if frozen == "true" else learns
    assert [p.requires_grad for p in module.parameters()] == expected


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    for static_graph in (False, True):
        for use, quantizer_name in CELLS:
            pipeline = Pipeline(use, quantizer_name).train()
            call = DistributedDataParallel(pipeline, static_graph=static_graph)
            state = train(pipeline, call)
            torch.save(
                state, f"{folder}/{use}-{quantizer_name}-{static_graph}-{rank}.pt"
            )
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(run_rank, (str(folder),), nprocs=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("static_graph", [False, True])
@every_cell
def test_ddp_needs_no_unused_parameters(ranks, use, quantizer_name, static_graph):
    first, second = (
        torch.load(
            ranks / f"{use}-{quantizer_name}-{static_graph}-{n}.pt", weights_only=True
        )
        for n in (0, 1)
    )
    assert first and first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, msg=name)
