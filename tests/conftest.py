"""Fixtures for all tests: a seed, and a limit on threads."""

import os
import random
import sys

# The tensors of tests are small, so more threads only add overhead, mostly on a busy
# machine. torch reads the variable at startup, also in processes started by tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(autouse=True)
def seed() -> None:
    """Start every test from the same draws, whichever ran before."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems() -> None:
    """Let hypothesis look at all modules, those of SpeechBrain too.

    It reads where each loaded module lies. SpeechBrain has modules that are imported
    when any attribute is read, and one of them needs k2, which few have.
    """
    for module in list(sys.modules.values()):
        if type(module).__module__ == "speechbrain.utils.importutils":
            vars(module).setdefault("__file__", None)
