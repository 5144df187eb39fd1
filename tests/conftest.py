"""Setup of all tests: a fixed seed, and one OpenMP thread."""

import os
import random
import sys

# Tests use small tensors, for which more threads only add waiting time. torch reads the
# variable at import, in child processes as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(autouse=True)
def seed() -> None:
    """Seed the random generators before every test."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems() -> None:
    """Let hypothesis inspect SpeechBrain's lazily imported modules.

    It reads ``__file__`` of each loaded module. SpeechBrain's lazy modules are imported
    when an attribute is read, and one of them needs k2, which is rarely installed.
    """
    for module in list(sys.modules.values()):
        if type(module).__module__ == "speechbrain.utils.importutils":
            vars(module).setdefault("__file__", None)
