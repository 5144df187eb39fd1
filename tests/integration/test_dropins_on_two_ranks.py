"""Drop-in modules whose forward is their own, on two ranks without a seed."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sb_espnet_vq.gan_codec.shared.quantizer.residual_vq import ResidualVectorQuantizer
from sb_espnet_vq.lobes.models.bsq import BinarySphericalQuantizer
from sb_espnet_vq.nnet.quantisers import (
    GumbelVectorQuantizer,
    RandomProjectionQuantizer,
)

SIZES = dict(dimension=8, codebook_dim=8, n_q=2, bins=16, kmeans_iters=3)


def train_on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(100 + rank)  # ranks differ, as without a seed
    projection = RandomProjectionQuantizer(8, 4, 16)
    rvq = ResidualVectorQuantizer(**SIZES)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    torch.manual_seed(7)
    gumbel = GumbelVectorQuantizer(8, 10, (2.0, 0.5, 0.9), 2, 8)
    batch = torch.randn(4, 30, 8)
    half = batch[2 * rank : 2 * rank + 2]
    labels = projection(half)
    for _ in range(3):
        rvq(half.transpose(1, 2), 50)
    out = gumbel(half)
    saved = {
        "bsq loss": BinarySphericalQuantizer(8)(half)[2],
        "P": projection.P,
        "CB": projection.CB,
        "labels": labels,
        "perplexities": torch.stack([out["code_perplexity"], out["prob_perplex"]]),
        **rvq.state_dict(),
    }
    torch.save({k: v.detach() for k, v in saved.items()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(train_on_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_both_hold_the_same_projection_and_codebooks(ranks):
    first, second = ranks
    for name in first:
        if name not in ("labels", "bsq loss"):
            assert torch.equal(first[name], second[name]), name


def test_labels_are_those_of_the_shared_tables(ranks):
    torch.manual_seed(7)
    GumbelVectorQuantizer(8, 10, (2.0, 0.5, 0.9), 2, 8)
    batch = torch.randn(4, 30, 8)
    one = RandomProjectionQuantizer(8, 4, 16)
    one.load_state_dict({"P": ranks[0]["P"], "CB": ranks[0]["CB"]})
    got = torch.cat([ranks[0]["labels"], ranks[1]["labels"]])
    assert torch.equal(got, one(batch))


def test_perplexities_are_those_of_the_whole_batch(ranks):
    torch.manual_seed(7)
    gumbel = GumbelVectorQuantizer(8, 10, (2.0, 0.5, 0.9), 2, 8)
    out = gumbel(torch.randn(4, 30, 8))
    expected = torch.stack([out["code_perplexity"], out["prob_perplex"]])
    torch.testing.assert_close(ranks[0]["perplexities"], expected.detach())


def test_the_loss_of_bsq_is_that_of_the_whole_batch(ranks):
    torch.manual_seed(7)
    GumbelVectorQuantizer(8, 10, (2.0, 0.5, 0.9), 2, 8)
    batch = torch.randn(4, 30, 8)
    whole = BinarySphericalQuantizer(8)(batch)[2]
    # DDP takes the mean over ranks.
    mean = (ranks[0]["bsq loss"] + ranks[1]["bsq loss"]) / 2
    torch.testing.assert_close(mean, whole)
    halves = [BinarySphericalQuantizer(8)(half)[2] for half in batch.split(2)]
    assert abs(sum(halves) / 2 - whole) > 1e-3
