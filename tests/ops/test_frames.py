"""Valid frames, means and random frames, compared with the reference."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from op_draws import DTYPES, drawn, quick, seeds

from sb_espnet_vq.ops import frames
from sb_espnet_vq.testing import reference


def batch(n, dim, seed, dtype=torch.float32):
    """Return frames, some not finite, and a mask of those that are not padding."""
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
    x, mask = batch(n, dim, seed, dtype)
    flat = frames.flat_frames(x, mask)
    valid = reference.valid_frames(x, mask)
    assert torch.equal(flat.valid, valid)
    assert int(flat.n_valid) == int(valid.sum()) and int(flat.offset) == 0
    assert torch.equal(flat.x[valid], x[valid]) and flat.x.dtype == dtype
    assert not flat.x[~valid].any()


def test_flat_frames_near_the_largest_float():
    x = torch.full((2, 64), 3.4e38)
    assert frames.flat_frames(x).valid.all()
    assert not frames.flat_frames(x.half()).valid.any()


@quick
@given(st.integers(0, 12), seeds)
def test_mean(n, seed):
    x, mask = batch(n, 2, seed, torch.float64)
    flat = frames.flat_frames(x, mask)
    values = torch.randn(n, generator=drawn(seed), dtype=torch.float64)
    values.requires_grad_()
    got, expected = flat.mean(values), reference.mean(values, flat.valid)
    torch.testing.assert_close(got, expected)
    pair = [torch.autograd.grad(y, values)[0] for y in (got, expected)]
    torch.testing.assert_close(*pair)
    summed = (values * flat.weight).sum()
    torch.testing.assert_close(flat.mean_of_sum(summed), expected)


def test_mean_square():
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    flat = frames.flat_frames(x, torch.tensor([True, False, True, True, False]))
    expected = ((x - y)[flat.valid] ** 2).mean()
    torch.testing.assert_close(flat.mean_square(x, y), expected)


@quick
@given(st.integers(1, 12), seeds)
def test_take_frames(n, seed):
    x, mask = batch(n, 2, seed)
    flat = frames.flat_frames(x, mask)
    if int(flat.n_valid):
        index = torch.randint(0, int(flat.n_valid), (7,), generator=drawn(seed))
        expected = reference.take_frames(x, flat.valid, index.tolist())
        assert torch.equal(frames.take_frames(flat, index), expected)


def test_draw_numbers_covers_the_valid_frames():
    flat = frames.flat_frames(torch.zeros(100, 1), torch.arange(100) % 2 == 0)
    assert sorted(frames.draw_numbers(flat, 50).tolist()) == list(range(50))
    for size in (1, 7, 333):
        numbers = frames.draw_numbers(flat, size)
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


def test_all_valid_is_set_only_if_all_frames_are_valid():
    x = torch.ones(3, 2)
    assert frames.flat_frames(x).all_valid
    assert not frames.flat_frames(x, torch.tensor([True, True, False])).all_valid
    x[1, 1] = float("nan")
    assert not frames.flat_frames(x).all_valid
