"""Scores of frames against codebook vectors."""

import os
import subprocess
import sys

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from op_draws import DTYPES, agree, normal, quick, seeds

from sb_espnet_vq.ops import (
    scores,
)
from sb_espnet_vq.testing import reference


@quick
@given(st.integers(0, 9), st.integers(1, 9), st.booleans(), seeds)
def test_scores(n, size, biased, seed):
    for dtype in DTYPES:
        x, table = normal(n, 5, seed=seed), normal(size, 5, seed=seed + 1)
        inputs = [x, table, normal(size, seed=seed + 2)][: 2 + biased]
        inputs = [each.detach().to(dtype).requires_grad_() for each in inputs]
        agree(scores.scores, reference.scores, *inputs)


def test_scores_accept_views_and_fixed_codebooks():
    x, table = normal(6, 8, seed=0, dtype=torch.float32), torch.randn(8, 10).t()
    agree(lambda x: scores.scores(x[::2], table), lambda x: x[::2] @ table.t(), x)
    learnt = table.clone().requires_grad_()
    agree(
        lambda t: scores.scores(x.detach(), t),
        lambda t: reference.scores(x.detach(), t),
        learnt,
    )


EQUAL_VECTORS = """
import torch
from sb_espnet_vq.ops.scores import scores
torch.manual_seed(0)
for size in (1, 7, 24, 33, 100, 513):
    for dim in (3, 16, 100):
        table = torch.randn(1, dim).expand(size, dim).contiguous()
        for bias in (None, torch.ones(size)):
            got = scores(torch.randn(40, dim), table, bias)
            assert torch.equal(got, got[:, :1].expand(40, size)), (size, dim)
            assert got.is_contiguous()
"""


@pytest.mark.parametrize("instructions", ["SSE41", "AVX2", "AVX512_CORE"])
def test_equal_vectors_have_equal_scores_on_any_processor(instructions):
    # oneDNN can only use a smaller instruction set than that of the processor.
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions}
    done = subprocess.run(
        [sys.executable, "-c", EQUAL_VECTORS], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
