"""The beam search, compared with the search over all chains."""

import itertools
import os

import pytest
import torch

from sb_espnet_vq.bench.memory import extra_peak_bytes
from sb_espnet_vq.ops import beam, nearest

SIZES = (3, 2, 4)


@pytest.fixture(params=[1, 2**20])
def tile(request, monkeypatch):
    monkeypatch.setitem(nearest._TILE_SCORES, "cpu", request.param)


def whole(*shape, seed):
    """Return small integers: their errors are exact, and some are equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, shape, generator=generator).float()


def greedy(x, tables):
    codes = []
    for table in tables:
        codes.append(nearest.nearest_code(x, table))
        x = x - table[codes[-1]]
    return torch.stack(codes, 1)


def values(tables, codes):
    return sum(table[codes[..., level]] for level, table in enumerate(tables))


def best_of_all(x, tables):
    """Return the first chain in lexicographic order with the smallest error."""
    sizes = [range(len(table)) for table in tables]
    chains = torch.tensor(list(itertools.product(*sizes)))
    errors = (x[:, None] - values(tables, chains)).square().sum(2)
    return chains[errors.argmin(1)]


@pytest.mark.parametrize("seed", range(5))
def test_all_chains_give_the_optimum(tile, seed):
    x = whole(40, 2, seed=seed)
    tables = [whole(size, 2, seed=seed + 10 * size) for size in SIZES]
    expected = best_of_all(x, tables)
    first = greedy(x, tables)
    assert not torch.equal(first, expected)
    assert torch.equal(beam.best_chain(x, tables, 24, expected), expected)
    # Also if the beam is larger than the number of chains.
    got = beam.best_chain(x, tables, 50, first)
    assert torch.equal(got, expected)


def test_more_chains_are_closer_and_rows_independent():
    generator = torch.Generator().manual_seed(0)
    tables = [torch.randn(32, 6, generator=generator) * 0.6**n for n in range(5)]
    x = torch.randn(300, 6, generator=generator)
    first = greedy(x, tables)
    errors = [(x - values(tables, first)).square().sum(1)]
    for size in (1, 2, 4, 8, 40):
        codes = beam.best_chain(x, tables, size, first)
        rows = [
            beam.best_chain(x[n : n + 1], tables, size, first[n : n + 1])
            for n in range(20)
        ]
        assert torch.equal(torch.cat(rows), codes[:20])
        errors.append((x - values(tables, codes)).square().sum(1))
        assert bool((errors[-1] <= errors[0] * (1 + 1e-6)).all())
    assert torch.equal(errors[1], errors[0])
    means = [float(each.mean()) for each in errors[1:]]
    assert means == sorted(means, reverse=True)
    assert means[3] < 0.8 * means[0], means


@pytest.mark.parametrize("width", [5, 16, 40, 96])
def test_the_largest_scores_ties_to_the_first(width):
    score = whole(50, width, seed=width)
    expected = score.sort(dim=1, descending=True, stable=True).indices[:, :5]
    assert torch.equal(beam._largest(score.clone(), 5), expected)


def test_the_greedy_chain_competes():
    # The beam of 2 keeps only chains that begin with codes 0 and 1.
    tables = [torch.tensor([[1.0], [1.0], [1.1]]), torch.tensor([[0.0], [-1.1]])]
    x, first = torch.tensor([[0.0]]), torch.tensor([[2, 1]])
    assert beam.best_chain(x, tables, 2, first).tolist() == [[2, 1]]


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be reset"
)
def test_memory_is_a_tile():
    x, tables = torch.randn(60_000, 4), [torch.randn(64, 4)] * 2
    first = torch.zeros(60_000, 2, dtype=torch.int64)
    beam.best_chain(x[:5000], tables, 8, first[:5000])
    # The scores of all frames would be 117 MiB.
    extra = extra_peak_bytes("cpu", lambda: beam.best_chain(x, tables, 8, first))
    assert extra < 30 * 2**20, f"{extra / 2**20:.0f} MiB"
