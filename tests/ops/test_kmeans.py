"""k-means, compared with the reference and with faiss."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from op_draws import drawn, quick, seeds

from sb_espnet_vq.ops import frames, kmeans
from sb_espnet_vq.testing import reference


@quick
@given(st.integers(2, 40), st.integers(1, 6), st.integers(1, 5), seeds)
def test_kmeans(n, size, iterations, seed):
    x = torch.randn(n, 2, generator=drawn(seed), dtype=torch.float64)
    mask = torch.rand(n, generator=drawn(seed + 1)) < 0.8
    mask[0] = True
    flat = frames.flat_frames(x, mask)
    torch.manual_seed(seed % 1000)
    first = frames.take_frames(flat, kmeans._first_centres(flat, size))
    expected = reference.kmeans(x[mask], first, iterations)
    torch.manual_seed(seed % 1000)
    torch.testing.assert_close(kmeans.kmeans(flat, size, iterations), expected)


def test_kmeans_is_as_accurate_as_that_of_faiss():
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


def test_frames_whose_squares_are_subnormal_count_as_zero():
    """A CPU is up to a hundred times slower at subnormal numbers."""
    x = torch.tensor([[1e-20, -1e-25], [3.0, 1e-30]])
    centres, _ = kmeans.kmeans(frames.flat_frames(x), 8, 3)
    assert set(centres.flatten().tolist()) <= {0.0, 3.0}
