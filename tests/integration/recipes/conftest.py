"""Fixtures for all SpeechBrain recipes: a tiny corpus, and the recipe."""

import contextlib
import csv
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """40 short sounds of two kinds, one of them stereo at 8 kHz, one very short."""
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path_factory.mktemp("corpus")
    generator = torch.Generator().manual_seed(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["wav", "label"])
        for number in range(40):
            rate, kind = (8000 if number == 0 else 16000), number % 2
            seconds = 0.02 if number == 5 else 0.2 + 0.02 * number
            time = torch.arange(int(rate * seconds)) / rate
            noise = 0.05 * torch.randn(len(time), generator=generator)
            hertz = 300 + 1500 * kind + 20 * number
            sound = 0.3 * torch.sin(6.2832 * hertz * time) + noise
            channels = sound[:, None].expand(-1, 2 if number == 0 else 1)
            soundfile.write(folder / f"s{number:02d}.wav", channels.numpy(), rate)
            writer.writerow([f"s{number:02d}.wav", "low high".split()[kind]])
    return folder


@pytest.fixture(scope="session")
def load_recipe():
    """Import a recipe's script as its launch command would: ``load(folder, name)``."""

    @contextlib.contextmanager
    def load(folder, name="train"):
        sys.path.insert(0, str(folder))
        hook, threads = sys.excepthook, torch.get_num_threads()
        before = set(sys.modules)
        # One thread: sums in another order would differ in their last bits.
        torch.set_num_threads(1)
        try:
            yield importlib.import_module(name)
        finally:
            sys.path.remove(str(folder))
            # Every recipe has modules of these names.
            for new in set(sys.modules) - before:
                file = getattr(sys.modules[new], "__file__", None)
                if file and Path(file).parent == folder:
                    del sys.modules[new]
            sys.excepthook = hook
            torch.set_num_threads(threads)

    return load


@pytest.fixture(scope="module")
def recipe(load_recipe, request):
    """The script of the recipe in ``RECIPE`` of a test module."""
    with load_recipe(request.module.RECIPE) as train:
        yield train


@pytest.fixture
def transfer(tmp_path_factory):
    """Load modules as SpeechBrain's recipes load pretrained ones; return warnings."""
    import logging

    parameter_transfer = pytest.importorskip("speechbrain.utils.parameter_transfer")

    def load(run, modules):
        newest = max((run / "save").glob("CKPT*"))
        warnings: list[str] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: warnings.append(record.getMessage())
        logging.getLogger().addHandler(handler)
        try:
            pretrainer = parameter_transfer.Pretrainer(
                collect_in=str(tmp_path_factory.mktemp("collected")),
                loadables=modules,
                paths={name: str(newest / f"{name}.ckpt") for name in modules},
            )
            pretrainer.collect_files()
            pretrainer.load_collected()
        finally:
            logging.getLogger().removeHandler(handler)
        return warnings

    return load


@pytest.fixture(scope="session")
def two_ranks():
    """Run a recipe's train.py on two processes: ``run(folder, arguments)``."""

    def run(folder, arguments):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
        command += [f"--master-port={29500 + os.getpid() % 2000}"]
        done = subprocess.run(
            [*command, folder / "train.py", *arguments, "--distributed_backend=gloo"],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    return run


# Kills itself at the end of a step, as a lost machine would.
KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, {folder!r})
import {script}
from sb_espnet_vq.training.brain import ResumableBrain
end = ResumableBrain.on_fit_batch_end
def killed(brain, *args):
    end(brain, *args)
    if brain.optimizer_step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
ResumableBrain.on_fit_batch_end = killed
{script}.main(sys.argv[1:])
"""


@pytest.fixture(scope="session")
def kill_run():
    """Start a recipe's script and kill it: ``kill(folder, arguments, step)``."""

    def kill(folder, arguments, step, script="train"):
        code = KILLED.format(folder=str(folder), script=script, step=step)
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr[-3000:]

    return kill
