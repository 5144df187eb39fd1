"""Output folders locked to one run, until its process ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.utils.run_lock import lock_folder

pytest.importorskip("fcntl")

ROOT = Path(__file__).parents[2]
# Two processes share the pipe: each line is a single write.
HOLDER = """
import os, sys, time
from sb_espnet_vq.utils.run_lock import lock_folder
lock_folder(sys.argv[1])
{more}
os.write(1, b"locked\\n")  # whole, since a worker may write too
time.sleep(600)
"""
# Like a data loader's worker, which outlives a killed run for seconds.
WORKER = """
if not os.fork():
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(600)
"""


@pytest.fixture
def hold():
    """Lock a folder in another process: ``hold(folder)``."""
    started = []

    def start(folder, more=""):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(more=more), str(folder)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        lines = [process.stdout.readline().strip() for _ in range(2 if more else 1)]
        process.output = [line for line in lines if line != "locked"]
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def elsewhere(tmp_path_factory):
    """Release all locks of a test."""
    yield
    lock_folder(tmp_path_factory.mktemp("elsewhere"))


def test_a_second_run_is_refused_and_names_the_first(hold, tmp_path, elsewhere):
    first = hold(tmp_path)
    with pytest.raises(ConfigError) as caught:
        lock_folder(tmp_path)
    message = str(caught.value)
    assert f"{tmp_path}: another run is using this folder" in message
    assert f"process {first.pid} on {os.uname().nodename}, started 2" in message
    # A second attempt reports the holder again, not the process of the first attempt.
    with pytest.raises(ConfigError, match=f"process {first.pid} "):
        lock_folder(tmp_path)


def test_a_killed_run_releases_its_folder(hold, tmp_path, elsewhere):
    first = hold(tmp_path, WORKER)
    first.send_signal(signal.SIGKILL)
    first.wait()
    worker = int(first.output[0])
    try:
        lock_folder(tmp_path)
    finally:
        os.kill(worker, signal.SIGKILL)
    assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on")


def claim(folder, answers):
    try:
        lock_folder(folder)
        answers.put("locked")
    except ConfigError:
        answers.put("refused")


def test_a_process_may_lock_its_folder_again_or_move_to_another(tmp_path, elsewhere):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()

    def another():
        process = context.Process(target=claim, args=(tmp_path / "a", answers))
        process.start()
        process.join()
        return answers.get()

    lock_folder(tmp_path / "a")
    lock_folder(tmp_path / "a")
    assert another() == "refused"
    lock_folder(tmp_path / "b")
    assert another() == "locked"


def test_a_shell_takes_the_lock_and_readers_share_it(tmp_path):
    take = f"'{sys.executable}' -m sb_espnet_vq.utils.run_lock"
    script = f"""
        cd '{tmp_path}'
        exec 9<>.lock; {take} 9 here shared || exit 3
        (exec 8<>.lock; {take} 8 here shared) || exit 4
        (exec 8<>.lock; {take} 8 here) && exit 5
        echo $$
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "error: here: another run is using this folder: process" in done.stderr


def test_a_folder_that_is_not_writable_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/run: cannot be written"):
        lock_folder(tmp_path / "file" / "run")


def test_a_file_system_without_locks_causes_a_warning(tmp_path, monkeypatch, caplog):
    import fcntl

    def without(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    lock_folder(tmp_path)
    assert "cannot be locked against a second run" in caplog.text


def test_a_recipe_refuses_the_folder_of_another_run(hold, tmp_path):
    pytest.importorskip("speechbrain")
    from sb_espnet_vq.training.start import begin

    first = hold(tmp_path)
    yaml = ROOT / "hparams" / "BEST-RQ" / "fsdd.yaml"
    before = (tmp_path / ".lock").read_text()
    with pytest.raises(ConfigError, match=f"process {first.pid} "):
        begin([str(yaml), f"--output_folder={tmp_path}"], lambda _: None)
    assert (tmp_path / ".lock").read_text() == before
    assert not (tmp_path / "hyperparams.yaml").exists()
