"""Swaps recorded in a Brain's run folder, and runs resumed with other swaps."""

import inspect
import logging
import sys
import types
from importlib import import_module
from types import SimpleNamespace

import pytest

from sb_espnet_vq.launcher import brains, swaps
from sb_espnet_vq.launcher.swaps import ADAPTERS, ORIGINALS, read_swap
from sb_espnet_vq.utils.import_hooks import AfterImport

TARGET = "speechbrain.nnet.quantisers.RandomProjectionQuantizer"
GUMBEL = "speechbrain.nnet.quantisers.GumbelVectorQuantizer"


class Checkpointer:
    def __init__(self, folder):
        self.checkpoints_dir = folder

    def list_checkpoints(self):
        return list(self.checkpoints_dir.glob("CKPT*"))


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a dummy Brain with some swaps and the checkpoint of an earlier run."""
    save = tmp_path / "save"
    (save / "CKPT+1").mkdir(parents=True)
    distributed = types.ModuleType("speechbrain.utils.distributed")
    distributed.if_main_process = lambda: True
    monkeypatch.setitem(sys.modules, distributed.__name__, distributed)
    monkeypatch.setattr(swaps, "_built", {TARGET})

    def run(*texts, method="fit", fresh=False):
        if fresh:
            (save / "CKPT+1").rmdir()
        core = types.ModuleType("speechbrain.core")

        class Brain:
            checkpointer = Checkpointer(save)
            hparams = SimpleNamespace(output_folder=str(tmp_path))

            def fit(self, value):
                return value + 1

            evaluate = fit

        core.Brain = Brain
        monkeypatch.setitem(sys.modules, "speechbrain.core", core)
        monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
        hook = AfterImport()
        brains.install(hook, [read_swap(text) for text in texts])
        hook.install()
        # SpeechBrain rewrites this at every start.
        (tmp_path / "hyperparams.yaml").write_text("seed: 1\n")
        assert getattr(Brain(), method)(1) == 2
        (save / "CKPT+1").mkdir(exist_ok=True)

    return run


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ([f"{TARGET}=vq"], [f"{TARGET}=rvq"], ("TARGET=vq", "TARGET=rvq")),
        (
            [f"{TARGET}=vq,decay=0.9"],
            [f"{TARGET}=vq,decay=0.8"],
            ("TARGET=vq,decay=0.9", "TARGET=vq,decay=0.8"),
        ),
        ([f"{TARGET}=vq"], [], ("TARGET=vq", "no swap")),
        ([], [f"{TARGET}=vq"], ("no swap", "TARGET=vq")),
    ],
)
def test_resuming_with_other_swaps_is_refused(start, first, second, named, method):
    start(*first, fresh=True)
    with pytest.raises(SystemExit) as caught:
        start(*second, method=method)
    before, now = (name.replace("TARGET", f"--swap {TARGET}") for name in named)
    assert f"were trained with {before}, this run has {now};" in caught.value.code
    start(*first, method=method)


def test_equivalent_spellings_are_the_same_swap(start):
    start(f"{TARGET}=vq,decay=0.9,codebook_size=4", f"{GUMBEL}=vq", fresh=True)
    start(f"{GUMBEL}=vq", f"{TARGET}=vq, codebook_size=4, decay=9e-1")


def test_the_quantizer_of_the_class_itself_counts_as_no_swap(start):
    start(fresh=True)
    start(f"{TARGET}=random_projection")
    start()


@pytest.mark.parametrize(("path", "adapter"), ADAPTERS.items(), ids=ADAPTERS)
def test_the_quantizer_of_the_class_itself_is_the_default_of_its_adapter(path, adapter):
    home, _, name = adapter.partition(":")
    parameters = inspect.signature(getattr(import_module(home), name)).parameters
    assert parameters["quantizer"].default == ORIGINALS[path]


def test_the_swap_and_its_options_are_recorded_in_the_run_folder(
    start, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    start(f"{TARGET}=vq,decay=0.9", fresh=True)
    line = f"--swap {TARGET}=vq,decay=0.9"
    head, rest = (tmp_path / "hyperparams.yaml").read_text().split("\n", 1)
    assert (head, rest) == (f"# {line}", "seed: 1\n")
    assert caplog.messages == [line]


def test_a_swap_without_effect_causes_a_warning(start, caplog):
    start(f"{TARGET}=vq", f"{GUMBEL}=bsq", fresh=True)
    warned = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    expected = f"--swap {GUMBEL}=bsq has no effect in this run: no "
    assert len(warned) == 1 and warned[0].startswith(expected)


PROGRAM = """
import sys, torch, speechbrain as sb
from speechbrain.nnet.quantisers import RandomProjectionQuantizer
from speechbrain.utils.checkpoints import Checkpointer

class Brain(sb.Brain):
    def compute_forward(self, batch, stage):
        return self.modules.linear(batch), self.modules.quantizer(batch)
    def compute_objectives(self, found, batch, stage):
        return torch.nn.functional.cross_entropy(found[0].transpose(1, 2), found[1])

if __name__ == "__main__":
    open("h.yaml", "w").write("seed: 1")
    sb.create_experiment_directory("run", "h.yaml")
    modules = {
        "quantizer": RandomProjectionQuantizer(8, 4, 16),
        "linear": torch.nn.Linear(8, 16),
    }
    saver = Checkpointer("run/save", modules)
    brain = Brain(
        modules, lambda x: torch.optim.SGD(x, 0.1), {"output_folder": "run"},
        {"device": "cpu", "noprogressbar": True}, saver,
    )
    brain.fit([1], [torch.randn(5, 8)])
    brain.checkpointer.save_checkpoint()
    print(type(modules["quantizer"].quantizer).__name__)
"""


def test_a_speechbrain_program_resumes_only_with_the_same_swap(bench):
    bench.write("prog.py", PROGRAM)
    out = bench.output("--swap", f"{TARGET}=vq,codebook_size=16", "prog.py")
    assert out.endswith("VQ\n")
    line = f"--swap {TARGET}=vq,codebook_size=16"
    run = bench.here / "run"
    assert (run / "hyperparams.yaml").read_text().startswith(f"# {line}\n")
    assert line in (run / "log.txt").read_text()
    assert (run / "prog.py").is_file()
    other = bench.launch("--swap", f"{TARGET}=bsq", "prog.py")
    assert other.returncode == 1
    assert f"{line}, this run has --swap {TARGET}=bsq" in other.stderr
    assert "Traceback" not in other.stderr
