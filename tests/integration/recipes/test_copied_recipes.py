"""A recipe copied by `sbvq cp` runs without changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sb_espnet_vq.cli.main import main

pytest.importorskip("speechbrain")
pytest.importorskip("soundfile")

ROOT = Path(__file__).parents[3]
ONE_STEP = ["--device=cpu", "--noprogressbar", "--optimizer_step_limit", "1"]
SPEECH = [*ONE_STEP, "--number_of_epochs", "1"]
CLIPS = [*ONE_STEP, "--n_classes", "2", "--classifier_epochs=1", "--piq_epochs=1"]


def run(folder, *command, **environment):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "command", "options", "result"),
    [
        ("best_rq", [sys.executable, "train.py", "hparams/fsdd.yaml"], SPEECH, "*"),
        ("wav2vec2", [sys.executable, "train.py", "hparams/fsdd.yaml"], SPEECH, "*"),
        ("codec", [sys.executable, "train.py", "hparams/fsdd.yaml"], SPEECH, "*"),
        ("ctc", [sys.executable, "train.py", "hparams/fsdd.yaml"], SPEECH, "*"),
        ("piq", ["bash", "run.sh"], CLIPS, "*/piq"),
    ],
)
def test_a_copy_trains(name, command, options, result, corpus, tmp_path):
    assert main(["cp", name, str(tmp_path / "copy")]) == 0
    data = ["--manifest", corpus / "manifest.csv", "--output_folder", "results/run"]
    run(tmp_path / "copy", *command, *options, *data, PYTHON=sys.executable)
    results = tmp_path.glob(f"copy/results/{result}/results.json")
    assert len(list(results)) == 1
    if command[0] == sys.executable:
        words = ["eval", "results/run", "--device=cpu", "--manifest", data[1]]
        run(tmp_path / "copy", sys.executable, "-m", "sb_espnet_vq.cli", *words)
        again = tmp_path / "copy/results/run/eval/manifest/results.json"
        assert json.loads(again.read_text())["evaluated"]["run"] == "results/run"


@pytest.mark.slow
def test_a_copy_of_the_espnet_recipe_prepares_data(corpus, tmp_path):
    pytest.importorskip("espnet2")
    assert main(["cp", "espnet_codec", str(tmp_path / "copy")]) == 0
    options = ["--manifest", corpus / "manifest.csv", "--output_folder", "out"]
    options += ["--stop_stage", "1"]
    run(tmp_path / "copy", "bash", "run.sh", *options, PYTHON=sys.executable)
    assert (tmp_path / "copy" / "out" / "data" / "train" / "wav.scp").is_file()


@pytest.mark.parametrize("copied", [True, False])
def test_run_sh_of_piq_needs_no_arguments(copied, tmp_path):
    folder = ROOT / "recipes" / "PIQ"
    if copied:
        folder = tmp_path / "copy"
        assert main(["cp", "piq", str(folder)]) == 0
    printed = run(tmp_path, "bash", folder / "run.sh", PYTHON="echo")
    lines = [[Path(word) for word in line.split()] for line in printed.splitlines()]
    assert [line[0].name for line in lines] == ["train_classifier.py", "train.py"]
    assert all(path.is_file() for line in lines for path in line)
