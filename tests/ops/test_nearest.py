"""Nearest codes, compared with the reference and with faiss."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from op_draws import DTYPES

from sb_espnet_vq.ops import nearest, scores
from sb_espnet_vq.testing import reference

quick = settings(max_examples=40, deadline=None, derandomize=True)


def whole(*shape, seed, dtype=torch.float32):
    """Return small integers, whose products are exact, so that ties are exact."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, shape, generator=generator).to(dtype)


@pytest.fixture(params=[1, 5, 24, 2**20], autouse=True, scope="module")
def tile(request):
    before = nearest._TILE_SCORES["cpu"]
    nearest._TILE_SCORES["cpu"] = request.param
    yield request.param
    nearest._TILE_SCORES["cpu"] = before


@quick
@given(
    st.integers(0, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from(DTYPES),
    st.integers(0, 2**31),
)
def test_nearest_code(n, size, dim, dtype, seed):
    x, codebook = whole(n, dim, seed=seed, dtype=dtype), whole(size, dim, seed=seed + 1)
    codebook = codebook.to(dtype)
    assert torch.equal(
        nearest.nearest_code(x, codebook), reference.nearest_code(x, codebook)
    )


@quick
@given(st.integers(0, 9), st.integers(1, 9), st.booleans(), st.integers(0, 2**31))
def test_best_score(n, size, biased, seed):
    x, table = whole(n, 3, seed=seed), whole(size, 3, seed=seed + 1)
    bias = whole(size, seed=seed + 2) if biased else None
    got = nearest.best_score(x, table, bias)
    assert torch.equal(got, reference.best_score(x, table, bias))


@quick
@given(
    st.integers(1, 3),
    st.integers(0, 6),
    st.integers(1, 8),
    st.integers(0, 3),
    st.integers(0, 2**31),
)
def test_nearest_allowed_code(batch, time, own, shared, seed):
    x, codebook = (
        whole(batch, time, 2, seed=seed),
        whole(own + shared, 2, seed=seed + 1),
    )
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(0, own, (batch,), generator=generator)
    length = torch.randint(1, own + 1, (batch,), generator=generator)
    last = (first + length).clamp(max=own)
    args = (x, codebook, first, last, int((last - first).max()), shared)
    got = nearest.nearest_allowed_code(*args)
    assert torch.equal(got, reference.nearest_allowed_code(*args))


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e6, 1e15])
@pytest.mark.parametrize("dtype", DTYPES)
def test_codes_do_not_depend_on_scale(scale, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 8, generator=generator, dtype=dtype)
    codebook = torch.randn(30, 8, generator=generator, dtype=dtype)
    expected = reference.nearest_code(x, codebook)
    assert torch.equal(nearest.nearest_code(x * scale, codebook * scale), expected)


def test_ties_go_to_the_lowest_index():
    codebook = torch.tensor([[9.0], [1.0], [1.0], [-1.0], [1.0]])
    x = torch.tensor([[1.0], [0.0], [-1.0]])
    assert nearest.nearest_code(x, codebook).tolist() == [1, 1, 3]


def test_rows_at_tile_boundaries():
    codebook = torch.arange(4.0)[:, None]
    for n in range(14):
        x = torch.arange(n)[:, None] % 4.0
        assert nearest.nearest_code(x, codebook).tolist() == [i % 4 for i in range(n)]


@pytest.mark.parametrize("size", [1, 63, 64, 511, 512, 576, 1000, 1024])
def test_first_argmax(size):
    generator = torch.Generator().manual_seed(size)
    values = torch.randint(-9, 10, (200, size), generator=generator).float()
    values[0] = -torch.inf
    values[1, size // 2] = torch.inf
    assert torch.equal(scores.first_argmax(values), reference.first_argmax(values))
    assert torch.equal(scores.first_argmax(values[:0]), values[:0].argmax(1))


def test_equal_vectors_have_equal_scores_at_any_index():
    generator = torch.Generator().manual_seed(0)
    for size, dim in ((7, 5), (33, 16), (513, 100), (1000, 256)):
        table = torch.randn(size, dim, generator=generator)
        x = torch.randn(40, dim, generator=generator)
        twice = scores.scores(x, torch.cat([table, table]))
        assert torch.equal(twice[:, :size], twice[:, size:])


def test_search_accepts_tensors_that_require_gradients():
    x = torch.randn(6, 3, requires_grad=True)
    table = torch.randn(4, 3, requires_grad=True)
    expected = reference.best_score(x, table)
    assert torch.equal(nearest.best_score(x, table), expected)
    assert not nearest.nearest_code(x, table).requires_grad


def test_tracing_agrees():
    torch._dynamo.reset()
    x, codebook = torch.randn(20, 3), torch.randn(7, 3)
    traced = torch.compile(nearest.nearest_code, fullgraph=True, backend="eager")
    assert torch.equal(traced(x, codebook), reference.nearest_code(x, codebook))


def test_faiss_finds_the_same_codes():
    faiss = pytest.importorskip("faiss")
    x, codebook = torch.randn(500, 16), torch.randn(200, 16)
    index = faiss.IndexFlatL2(16)
    index.add(codebook.numpy())
    expected = torch.from_numpy(index.search(x.numpy(), 1)[1][:, 0])
    assert torch.equal(nearest.nearest_code(x, codebook), expected)
