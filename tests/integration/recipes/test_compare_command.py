"""`sbvq compare` from audio files to tables: tiny, killed in the middle, resumed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sb_espnet_vq.cli.main import main

pytest.importorskip("speechbrain")
pytest.importorskip("matplotlib")
pytest.importorskip("huggingface_hub")

ROOT = Path(__file__).parents[3]

GRID = """
seeds: [1]
options:
    both:
        sample_rate: 8000
        held_out: [0.2, 0.3]
        warmup_steps: 1
        seconds_per_batch: 4.0
    codec:
        number_of_epochs: 1
        metrics: [stft_distance]
        reconstructions: 1
        dim: 8
        channels: 2
        codebook_size: 16
    ctc:
        number_of_epochs: 8
        n_mels: 10
        n_fft: 400
        dim: 8
        hidden_size: 8
        num_layers: 1
quantizers:
    rvq:
        bitrates: {0.4: {n_codebooks: 1}}
"""


@pytest.fixture(scope="module")
def words(corpus, tmp_path_factory):
    """The command line of a comparison of one quantizer, without its folder."""
    grid = tmp_path_factory.mktemp("grid") / "tiny.yaml"
    grid.write_text(GRID)
    options = ["--manifest", str(corpus / "manifest.csv"), "--threads=1"]
    return ["compare", str(grid), *options]


@pytest.fixture(scope="module")
def finished(words, tmp_path_factory):
    """The folder of a comparison that was not interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    assert main([*words, "--out", str(folder)]) == 0
    return folder


def test_one_command_trains_evaluates_and_reports(finished):
    page = (finished / "README.md").read_text()
    assert "2 of 2 cells finished" in page
    for metric in ("STFT distance", "dWER", "token WER", "codec memory"):
        assert metric in page
    cost = json.loads((finished / "cells/rvq/0.4/1/cost.json").read_text())
    assert set(cost) == {"codec", "ctc"}
    # Those of a process with torch.
    assert all(5e7 < each["peak_bytes"] < 5e9 for each in cost.values())


def test_a_killed_comparison_resumes_to_the_same_table(finished, words, tmp_path):
    folder = tmp_path / "killed"
    # With the recognizer and the codec, which need not be trained again.
    shutil.copytree(finished, folder)
    home = folder / "cells/rvq/0.4/1"
    shutil.rmtree(home / "ctc")
    cost = json.loads((home / "cost.json").read_text())
    (home / "cost.json").write_text(json.dumps({"codec": cost["codec"]}))
    (folder / "table.csv").unlink()
    command = [sys.executable, "-m", "sb_espnet_vq.cli", *words, "--out", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT) as comparison:
        deadline = time.monotonic() + 120
        while not list(home.glob("ctc/save/CKPT*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        child = _holder(home / "ctc")
        comparison.send_signal(signal.SIGKILL)
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_running(child), "the recipe outlived the comparison"
    assert list(home.glob("ctc/save/CKPT*"))
    assert not (home / "ctc" / "results.json").exists()
    assert main([*words, "--out", str(folder)]) == 0
    assert (folder / "table.csv").read_bytes() == (finished / "table.csv").read_bytes()


def test_codebooks_that_a_bitrate_does_not_use_are_refused(words, tmp_path, capsys):
    # The recognizer would get tokens of a codebook that is not trained.
    _, file, *options = words
    grid = tmp_path / "grid.yaml"
    grid.write_text(Path(file).read_text().replace("n_codebooks: 1", "n_codebooks: 3"))
    out = tmp_path / "out"
    assert main(["compare", str(grid), *options, "--out", str(out)]) == 2
    assert "has 3 codebooks, but 0.4 kbit/s are those of 1; " in capsys.readouterr().err
    assert not out.exists()


def _holder(folder: Path) -> int:
    """The process that has locked a run's folder."""
    return int((folder / ".lock").read_text().split()[1])


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # Its parent is gone, so that nobody may have waited for it.
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize(
    "more, message",
    [
        (["--n_codebooks", "2"], "--n_codebooks: the grid sets it"),
        (["--dimm", "8"], "--dimm: .* has no such key; did you mean --dim"),
        (["--codebook_size", "64"], "has 0.6 kbit/s: .64,. codes at 100 frames/s"),
        (["--device", "tpu"], "--device must be cpu or cuda"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_written(
    words, tmp_path, capsys, more, message
):
    assert main([*words, *more, "--out", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
