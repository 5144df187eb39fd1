"""Adapters on two ranks without a seed."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from sb_espnet_vq.lobes.quantizers import ContrastiveQuantizer, TargetQuantizer

TARGETS = ["random_projection", "entropy_vq", "vq", "bsq"]
DIVERSE = ["gumbel", "entropy_vq", "bsq"]


def targets():
    return {name: TargetQuantizer(8, 4, 16, quantizer=name) for name in TARGETS}


def diversity_gradient(name: str, x: torch.Tensor, wrap=lambda module: module):
    """Return the gradients of the mean probabilities' perplexity."""
    torch.manual_seed(7)
    arguments = 8, 16, (2.0, 0.5, 0.9), 2, 8
    module = ContrastiveQuantizer(*arguments, quantizer=name).double()
    wrapped = wrap(module)
    out = wrapped(x)
    (out["x"].sum() * 0 - out["prob_perplex"]).backward()
    return [p.grad for p in module.parameters() if p.grad is not None]


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(100 + rank)  # ranks differ, as without a seed
    modules = targets()
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    batch = torch.randn(4, 30, 8, generator=torch.Generator().manual_seed(1))
    half = batch[2 * rank : 2 * rank + 2]
    for module in modules.values():
        module(half)
    saved = {name: module.state_dict() for name, module in modules.items()}
    for name in DIVERSE:
        saved[f"{name} gradients"] = diversity_gradient(
            name, half.double(), DistributedDataParallel
        )
    torch.save(saved, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(run_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", TARGETS)
def test_targets_agree_where_nothing_is_trained(ranks, name):
    first, second = (rank[name] for rank in ranks)
    assert first
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("name", DIVERSE)
def test_diversity_is_that_of_the_whole_batch(ranks, name):
    batch = torch.randn(4, 30, 8, generator=torch.Generator().manual_seed(1))
    expected = diversity_gradient(name, batch.double())
    for rank in ranks:
        torch.testing.assert_close(rank[f"{name} gradients"], expected)
