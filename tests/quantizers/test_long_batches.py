"""Long batches in bounded memory, and shapes without data."""

import os

import pytest
import torch
from random_frames import normal

from sb_espnet_vq import build, list_quantizers
from sb_espnet_vq.bench.memory import extra_peak_bytes
from sb_espnet_vq.nnet.quantisers import GumbelVectorQuantizer


@pytest.mark.parametrize("name", list_quantizers())
def test_shapes_without_data(name):
    """On the meta device, as tools do that count parameters or operations."""
    with torch.device("meta"):
        q = build(name, dim=8, codebook_size=16).eval()
        assert q(torch.empty(2, 5, 8)).quantized.shape == (2, 5, 8)


ONE_GROUP = {"gumbel": {"n_codebooks": 1}}
HOUR = 3600 * 75
WIDE = {
    "bsq": {"codebook_size": 2**16},
    "class_partitioned": {"codebook_size": 1024, "num_classes": 4},
    "rvq": {"codebook_size": 1024, "n_codebooks": 2},
}


@pytest.fixture(scope="module")
def hour():
    return normal(1, HOUR, 96)


LONG = [*((name, False) for name in list_quantizers()), ("class_partitioned", True)]


def encoder(name, labelled):
    q = build(name, dim=96, **WIDE.get(name, {"codebook_size": 1024})).eval()
    labels = torch.tensor([1]) if labelled else None
    return lambda x: q.encode(x, labels=labels)


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be reset"
)
@pytest.mark.parametrize(("name", "labelled"), LONG)
def test_an_hour_is_encoded_in_little_memory(name, labelled, hour):
    """270,000 frames with 1024 scores each would be 1 GiB; the frames are 99 MiB."""
    encode, found = encoder(name, labelled), []
    # Channels-first layout, as in codecs: copying the whole input would be detected.
    x = hour.transpose(1, 2).contiguous().transpose(1, 2)
    extra = extra_peak_bytes("cpu", lambda: found.append(encode(x)))
    allowed = 64 * 2**20 + 3 * found[0].nbytes
    assert extra < allowed, f"{extra / 2**20:.0f} MiB"


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be reset"
)
@pytest.mark.parametrize("name", ["entropy_vq", "gumbel", "GumbelVectorQuantizer"])
def test_training_with_many_codes_takes_little_memory(name):
    """Less than one table of scores; without tiles a step holds several."""
    if name == "GumbelVectorQuantizer":
        q = GumbelVectorQuantizer(16, 8192, (2.0, 0.5, 0.9), 1, 16)
    else:
        q = build(name, dim=16, codebook_size=8192, **ONE_GROUP.get(name, {}))
    x = normal(4, 750, 16).requires_grad_()

    def step():
        out = q(x)
        terms = out.values() if isinstance(out, dict) else out
        learnt = [each for each in terms if getattr(each, "requires_grad", False)]
        sum(each.sum() for each in learnt).backward()

    extra, table = extra_peak_bytes("cpu", step), 3000 * 8192 * 4
    assert extra < table, f"{extra / 2**20:.0f} of {table / 2**20:.0f} MiB"


@pytest.mark.parametrize(("name", "labelled"), LONG)
def test_a_long_batch_in_pieces_has_the_same_codes(name, labelled, hour):
    encode = encoder(name, labelled)
    frames = hour[:, : HOUR // 4]
    codes = encode(frames)
    pieces = [encode(each) for each in frames[:, :4500].split(75, 1)]
    assert torch.equal(torch.cat(pieces, 1), codes[:, :4500]), "second by second"
    # Rounding may tip a near-tie where another kernel serves another size.
    pieces = [encode(each) for each in frames.split(7500, 1)]
    assert (torch.cat(pieces, 1) != codes).sum() < 5, "in pieces of 100 s"
