"""Frames, averages, k-means and usage, against the slow forms."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from sb_espnet_vq.ops import ema, frames, kmeans, reference, usage

DTYPES = [torch.float32, torch.float64]
quick = settings(max_examples=30, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def batch(n, dim, seed, dtype=torch.float32):
    """Frames of which some are padding and some not finite."""
    generator = drawn(seed)
    x = torch.randn(n, dim, generator=generator, dtype=dtype)
    kind = torch.randint(0, 6, (n,), generator=generator)
    x[kind == 1, 0] = float("nan")
    x[kind == 2] = float("inf")
    x[kind == 3, -1] = -float("inf")
    return x, kind != 4


@quick
@given(st.integers(0, 12), st.integers(1, 3), st.sampled_from(DTYPES), seeds)
def test_flat_frames(n, dim, dtype, seed):
    x, real = batch(n, dim, seed, dtype)
    found = frames.flat_frames(x, real)
    valid = reference.valid_frames(x, real)
    assert torch.equal(found.valid, valid)
    assert int(found.n_valid) == int(valid.sum()) and int(found.offset) == 0
    assert torch.equal(found.x[valid], x[valid]) and found.x.dtype == dtype
    assert not found.x[~valid].any()


def test_flat_frames_near_the_largest_float():
    x = torch.full((2, 64), 3.4e38)
    assert frames.flat_frames(x).valid.all()
    assert not frames.flat_frames(x.half()).valid.any()


@quick
@given(st.integers(0, 12), seeds)
def test_mean(n, seed):
    x, real = batch(n, 2, seed, torch.float64)
    found = frames.flat_frames(x, real)
    values = torch.randn(n, generator=drawn(seed), dtype=torch.float64)
    values.requires_grad_()
    got, expected = found.mean(values), reference.mean(values, found.valid)
    torch.testing.assert_close(got, expected)
    pair = [torch.autograd.grad(y, values)[0] for y in (got, expected)]
    torch.testing.assert_close(*pair)
    summed = (values * found.weight).sum()
    torch.testing.assert_close(found.mean_of_sum(summed), expected)


def test_mean_square():
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    found = frames.flat_frames(x, torch.tensor([True, False, True, True, False]))
    expected = ((x - y)[found.valid] ** 2).mean()
    torch.testing.assert_close(found.mean_square(x, y), expected)


@quick
@given(st.integers(1, 12), seeds)
def test_take_frames(n, seed):
    x, real = batch(n, 2, seed)
    found = frames.flat_frames(x, real)
    if int(found.n_valid):
        index = torch.randint(0, int(found.n_valid), (7,), generator=drawn(seed))
        expected = reference.take_frames(x, found.valid, index.tolist())
        assert torch.equal(frames.take_frames(found, index), expected)


def test_draw_numbers_spread_over_valid_frames():
    found = frames.flat_frames(torch.zeros(100, 1), torch.arange(100) % 2 == 0)
    assert sorted(frames.draw_numbers(found, 50).tolist()) == list(range(50))
    for size in (1, 7, 333):
        numbers = frames.draw_numbers(found, size)
        assert numbers.shape == (size,)
        assert 0 <= int(numbers.min()) and int(numbers.max()) < 50
    none = frames.flat_frames(torch.ones(9, 1), torch.zeros(9, dtype=torch.bool))
    assert not frames.take_frames(none, frames.draw_numbers(none, 3)).any()
    empty = frames.flat_frames(torch.ones(0, 1))
    drawn = frames.take_frames(empty, frames.draw_numbers(empty, 3))
    assert drawn.shape == (3, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, *DTYPES])
def test_finite_rows(dtype):
    top = torch.finfo(dtype).max
    odd = [float("nan"), float("inf"), -float("inf"), top, -top, 0.0]
    x = torch.tensor([[a, b] for a in odd for b in odd], dtype=dtype)
    assert torch.equal(frames.finite_rows(x), reference.finite_rows(x))
    swapped = x.view(6, 6, 2).transpose(0, 1)
    expected = reference.finite_rows(swapped)
    assert torch.equal(frames.finite_rows(swapped), expected)


def test_frames_know_whether_all_are_valid():
    x = torch.ones(3, 2)
    assert frames.flat_frames(x).all_valid
    assert not frames.flat_frames(x, torch.tensor([True, True, False])).all_valid
    x[1, 1] = float("nan")
    assert not frames.flat_frames(x).all_valid


@quick
@given(st.integers(0, 12), st.integers(1, 5), st.sampled_from(DTYPES), seeds)
def test_code_sums(n, size, dtype, seed):
    x = torch.randn(n, 3, generator=drawn(seed), dtype=dtype)
    codes = torch.randint(0, size, (n,), generator=drawn(seed))
    valid = torch.rand(n, generator=drawn(seed)) < 0.7
    got = ema.code_sums(x, codes, valid, size)
    torch.testing.assert_close(got, reference.code_sums(x, codes, valid, size))


@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_ema_update(decay, update):
    # Where nothing was counted, the sum of it is zero.
    average, new = torch.randn(4, 3), torch.randn(4, 3) * update
    expected = reference.ema_update(average, new, decay, update)
    ema.ema_update_(average, new, decay, torch.tensor(update))
    torch.testing.assert_close(average, expected)


@quick
@given(st.integers(1, 6), st.sampled_from(DTYPES), seeds)
def test_smoothed_means(size, dtype, seed):
    generator = drawn(seed)
    entries = torch.randn(size, 3, generator=generator, dtype=dtype)
    counts = torch.randint(0, 4, (size,), generator=generator).to(dtype)
    sums = torch.randn(size, 3, generator=generator, dtype=dtype) * counts[:, None]
    expected = reference.smoothed_means(sums, counts, entries)
    means = ema.smoothed_means(sums, counts, entries)
    torch.testing.assert_close(means, expected)
    torch.testing.assert_close(means[counts == 0], entries[counts == 0])


@pytest.mark.parametrize("count", [2e-3, 1e-5, 1e-20, 1e-38, 0.0])
def test_a_decayed_code_keeps_its_entry(count):
    # Its sum and its count decay together; their quotient is the entry.
    entries, counts = torch.randn(2, 3), torch.tensor([100.0, count])
    means = ema.smoothed_means(entries * counts[:, None], counts, entries)
    torch.testing.assert_close(means, entries)


@quick
@given(st.integers(2, 40), st.integers(1, 6), st.integers(1, 5), seeds)
def test_kmeans(n, size, iterations, seed):
    x = torch.randn(n, 2, generator=drawn(seed), dtype=torch.float64)
    real = torch.rand(n, generator=drawn(seed + 1)) < 0.8
    real[0] = True
    found = frames.flat_frames(x, real)
    torch.manual_seed(seed % 1000)
    first = frames.take_frames(found, kmeans._first_centres(found, size))
    expected = reference.kmeans(x[real], first, iterations)
    torch.manual_seed(seed % 1000)
    torch.testing.assert_close(kmeans.kmeans(found, size, iterations), expected)


def test_kmeans_is_as_good_as_that_of_faiss():
    faiss = pytest.importorskip("faiss")
    generator = drawn(0)
    middles = torch.randn(32, 8, generator=generator) * 5
    x = middles.repeat(40, 1) + torch.randn(1280, 8, generator=generator)
    theirs = faiss.Kmeans(8, 32, niter=30, seed=1)
    theirs.train(x.numpy())
    error = []
    for centres in (
        kmeans.kmeans(frames.flat_frames(x), 32, 30)[0],
        torch.from_numpy(theirs.centroids),
    ):
        nearest = centres[reference.nearest_code(x, centres)]
        error.append(((x - nearest) ** 2).sum(1).mean().item())
    assert error[0] < 1.3 * error[1], error


@quick
@given(st.integers(0, 12), st.integers(1, 3), st.integers(1, 5), st.booleans(), seeds)
def test_code_counts(n, k, size, each, seed):
    codes = torch.randint(0, size, (n, k), generator=drawn(seed))
    weight = torch.rand(*((n, k) if each else (n,)), generator=drawn(seed)).round()
    expected = reference.code_counts(codes, weight, size)
    assert torch.equal(usage.code_counts(codes, weight, size), expected)


@quick
@given(st.integers(0, 30), st.integers(1, 3), st.integers(1, 5), seeds)
def test_usage(n, k, size, seed):
    codes = torch.randint(0, size, (n, k), generator=drawn(seed))
    valid = torch.rand(n, generator=drawn(seed)) < 0.7
    counts = usage.code_counts(codes, valid.float(), size)
    expected = torch.tensor(reference.usage_of_counts(counts), dtype=torch.float64)
    for found in (usage.usage_of_counts(counts), usage.usage_of_codes(codes, valid)):
        torch.testing.assert_close(
            torch.stack(found).double(), expected, rtol=1e-5, atol=1e-5
        )
    if valid.any():
        by_code = torch.tensor(reference.usage_of_codes(codes, valid))
        torch.testing.assert_close(by_code.double(), expected)
