"""Products of frames with a table."""

import os
import subprocess
import sys

import pytest

EQUAL_ENTRIES = """
import torch
from sb_espnet_vq.ops.scores import scores
torch.manual_seed(0)
for size in (1, 7, 24, 33, 100, 513):
    for dim in (3, 16, 100):
        table = torch.randn(1, dim).expand(size, dim).contiguous()
        for bias in (None, torch.ones(size)):
            found = scores(torch.randn(40, dim), table, bias)
            assert torch.equal(found, found[:, :1].expand(40, size)), (size, dim)
            assert found.is_contiguous()
"""


@pytest.mark.parametrize("instructions", ["SSE41", "AVX2", "AVX512_CORE"])
def test_equal_entries_score_alike_on_any_processor(instructions):
    # The instruction set can only be reduced.
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions}
    done = subprocess.run(
        [sys.executable, "-c", EQUAL_ENTRIES], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
