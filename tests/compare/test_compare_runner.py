"""Cells run in parallel, fail alone and stop, with scripts instead of the recipes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sb_espnet_vq._resources import Recipe
from sb_espnet_vq.compare import cells
from sb_espnet_vq.compare.cells import Setting, is_finished, read_cost
from sb_espnet_vq.compare.grid import read_grid
from sb_espnet_vq.compare.runner import LocalPool, RayPool, run_cells, visible_gpus
from sb_espnet_vq.errors import ConfigError

ROOT = Path(__file__).parents[2]
GRID = """
seeds: [1, 2]
quantizers:
    rvq:
        bitrates: {0.4: {n_codebooks: 1}}
"""
# Notes when it runs and with what, and fails or waits where a file says so.
SCRIPT = """
import json, os, sys, time
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--output_folder") + 1])
names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
started = time.time()
print("seed", sys.argv[sys.argv.index("--seed") + 1], flush=True)
top = Path({top!r})
while (top / "wait").exists():
    time.sleep(0.01)
if (top / "fail").exists() and "cells" in out.parts and out.parts[-2] == "1":
    sys.exit("no memory")
out.mkdir(parents=True)
# Codecs wait for each other.
while (top / "meet").exists() and out.name == "codec" and (
    len(list(out.parent.parent.glob("*/codec"))) < 2
):
    time.sleep(0.01)
seen = [started, time.time(), *map(os.environ.get, names)]
(out / "seen.json").write_text(json.dumps(seen))
"""


@pytest.fixture
def comparison(tmp_path, monkeypatch):
    """A grid of two recognizers and two codecs, and where to run it."""
    (tmp_path / "grid.yaml").write_text(GRID)
    grid = read_grid(tmp_path / "grid.yaml")
    (tmp_path / "train.py").write_text(SCRIPT.format(top=str(tmp_path)))
    recipe = Recipe("any", tmp_path, {})
    monkeypatch.setattr(cells, "find_recipe", lambda name: recipe)
    monkeypatch.setattr(cells, "_stopped", type(cells._stopped)())
    return grid, Setting(tmp_path / "out", "cpu", threads=3, asr=True)


def seen(setting):
    import json

    files = sorted(setting.folder.rglob("seen.json"))
    parts = {str(f.parent.relative_to(setting.folder)): f for f in files}
    return {name: json.loads(file.read_text()) for name, file in parts.items()}


def test_recognizers_run_first_and_cells_side_by_side(comparison, tmp_path):
    grid, setting = comparison
    (tmp_path / "meet").touch()
    lines = []
    pool = LocalPool(2, gpus=["5", "7"])
    assert run_cells(grid.cells, grid, setting, pool, lines.append) == {}
    assert all(is_finished(cell, grid, setting) for cell in grid.cells)
    spans = seen(setting)
    codecs = [spans[f"cells/rvq/0.4/{seed}/codec"] for seed in (1, 2)]
    recognizers = [spans[f"recognizers/{seed}/ctc"] for seed in (1, 2)]
    assert max(end for _, end, *_ in recognizers) <= min(start for start, *_ in codecs)
    # Both at one time, else they would wait forever; each on a GPU of its own.
    assert {gpu for *_, gpu, _ in codecs} == {"5", "7"}
    assert {threads for *_, threads in spans.values()} == {"3"}
    assert lines[-1].startswith("[4/4] ") and "none left" in lines[-1]
    cost = read_cost(setting.folder / grid.cells[2].id)
    assert cost["codec"]["peak_bytes"] > 1e6


def test_a_failed_cell_names_its_log_and_the_others_go_on(comparison, tmp_path):
    grid, setting = comparison
    (tmp_path / "fail").touch()
    failures = run_cells(grid.cells, grid, setting, LocalPool(1), lambda line: None)
    log = setting.folder / "cells/rvq/0.4/1/codec.log"
    assert failures == {
        "cells/rvq/0.4/1": f"codec ended with status 1; log: {log}",
    }
    assert "seed 1" in log.read_text() and "no memory" in log.read_text()
    assert [is_finished(c, grid, setting) for c in grid.cells] == [True] * 2 + [
        False,
        True,
    ]


def test_codecs_wait_for_no_recognizer_that_failed(comparison, tmp_path):
    grid, setting = comparison
    (tmp_path / "train.py").write_text("raise SystemExit(3)")
    failures = run_cells(grid.cells, grid, setting, LocalPool(1), lambda line: None)
    assert "ctc ended with status 3" in failures["recognizers/1"]
    assert failures["cells/rvq/0.4/1"] == "the recognizer of this seed failed"


def test_an_interruption_stops_the_children(comparison, tmp_path):
    grid, setting = comparison
    (tmp_path / "wait").touch()
    pool = LocalPool(2)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_cells(grid.cells, grid, setting, pool, lambda line: None)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not cells._running
    assert not seen(setting)


def test_a_script_ends_with_its_parent(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import time; print('up', flush=True); time.sleep(60)")
    command = [sys.executable, "-m", "sb_espnet_vq.compare.child", str(script)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as child:
        assert child.stdout.readline() == b"up\n"
        started = time.monotonic()
        # As the system does when the parent ends.
        child.stdin.close()
        try:
            child.wait(20)
        finally:
            child.kill()
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    "device, given, expected",
    [("cpu", "0,1", []), ("cuda", "2,5", ["2", "5"]), ("cuda:1", "2,5", [])],
)
def test_cells_are_distributed_over_visible_gpus(device, given, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus(device) == expected


def test_ray_names_its_extra(monkeypatch):
    from sb_espnet_vq.compare import runner

    monkeypatch.setattr(runner, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"sb_espnet_vq\[cluster\]"):
        RayPool("local", threads=1, gpus=0)
