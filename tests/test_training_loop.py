"""The program of docs/training-loop.md gives one result with one and two processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training-loop.md"
LINE = re.compile(r"rank \d: error ([\d.]+), codes in use ([\d.]+)")


@pytest.fixture
def program(tmp_path):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    path = tmp_path / "train.py"
    path.write_text(code)
    return path


def _results(*command) -> list[tuple[float, float]]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    return [(float(error), float(used)) for error, used in LINE.findall(done.stdout)]


@pytest.mark.slow
def test_the_program_gives_one_result_with_one_and_two_processes(program):
    (alone,) = _results(program)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    both = _results(*torchrun, program)
    assert len(both) == 2
    for error, used in both:
        assert error == pytest.approx(alone[0], abs=2e-4)
        assert used == pytest.approx(alone[1], abs=0.5)
