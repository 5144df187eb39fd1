"""Refitted codebooks, compared with a dense least-squares solution."""

import pytest
import torch

from sb_espnet_vq.ops.least_squares import Assigned, refit_tables, squared_error

SIZES = (4, 3, 5)


def problem(frames=200, dim=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(frames, dim, generator=generator) + 2
    codes = [torch.randint(n, (frames,), generator=generator) for n in SIZES]
    codes = torch.stack(codes, 1)
    codes[codes[:, 2] == 4, 2] = 0  # a code that no frame has
    codes[::7, 2] = -1
    tables = [torch.randn(n, dim, generator=generator) for n in SIZES]
    return x, codes, tables


def design(codes):
    columns = []
    for level, size in enumerate(SIZES):
        columns.append(codes[:, level, None] == torch.arange(size))
    return torch.cat(columns, 1).double()


@pytest.mark.parametrize("ridge", [0.0, 2.0])
def test_it_is_the_least_squares_solution(ridge):
    x, codes, tables = problem()
    got = refit_tables([Assigned(x, codes)], tables, ridge, tolerance=1e-9)
    matrix, start = design(codes), torch.cat(tables).double()
    residual = x.double() - matrix @ start
    normal = matrix.T @ matrix + ridge * torch.eye(sum(SIZES))
    # The smallest change, since a constant can move from one table to another.
    change = torch.linalg.pinv(normal, hermitian=True) @ matrix.T @ residual
    torch.testing.assert_close(
        matrix @ torch.cat(got).double(), matrix @ (start + change), atol=1e-5, rtol=0
    )
    if ridge:
        torch.testing.assert_close(
            torch.cat(got).double(), start + change, atol=1e-5, rtol=0
        )
    assert torch.equal(got[2][4], tables[2][4])


def test_chunks_add_up_and_weights_count_as_repeats():
    x, codes, tables = problem()
    whole = refit_tables([Assigned(x, codes), Assigned(x[:50], codes[:50])], tables)
    parts = [Assigned(x[:50], codes[:50], 2.0), Assigned(x[50:], codes[50:])]
    for a, b in zip(refit_tables(parts, tables), whole, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_the_error_never_increases(iterations):
    x, codes, tables = problem()
    chunks = [Assigned(x, codes)]
    before = squared_error(chunks, tables)
    got = refit_tables(chunks, tables, iterations=iterations)
    after = squared_error(chunks, got)
    assert after < before if iterations else after == before
    # At the minimum there is nothing to gain, and rounding must not make it worse.
    best = refit_tables(chunks, tables, tolerance=1e-12)
    least = squared_error(chunks, best)
    assert squared_error(chunks, refit_tables(chunks, best)) <= least


def test_fewer_codes_refit_only_their_codebooks():
    x, codes, tables = problem()
    got = refit_tables([Assigned(x, codes[:, :2])], tables)
    assert torch.equal(got[2], tables[2]) and not torch.equal(got[1], tables[1])
