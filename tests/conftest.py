"""What every test gets: a seed, and its share of the processor."""

import os
import random

# Under pytest-xdist the workers would otherwise take all cores each. This is read
# when torch starts, also by the processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(autouse=True)
def seed() -> None:
    """Start every test from the same draws, whichever ran before."""
    random.seed(0)
    torch.manual_seed(0)
