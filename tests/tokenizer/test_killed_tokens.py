"""``sbvq tokens`` killed by the system, and run again."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("safetensors")
pytest.importorskip("lhotse")
soundfile = pytest.importorskip("soundfile")

from test_token_formats import config, content  # noqa: E402

from sb_espnet_vq.cli.main import main  # noqa: E402
from sb_espnet_vq.tokenizer import AudioTokenizer  # noqa: E402

# Ends at a rename as a process that gets SIGKILL does: nothing is cleaned up.
KILLED = """
import os, signal, sys
from sb_espnet_vq.cli.main import main
last, replace, renamed = int(sys.argv[1]), os.replace, []
def kill_or_rename(*paths):
    if len(renamed) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    renamed.append(paths)
    replace(*paths)
os.replace = kill_or_rename
main(sys.argv[2:])
"""


@pytest.mark.slow
def test_killed_runs_leave_what_a_whole_run_writes(tmp_path, monkeypatch):
    for name in ("audio", "whole", "killed"):
        (tmp_path / name).mkdir()
    for n in range(4):
        signals = 0.3 * torch.randn(1000).numpy()
        soundfile.write(tmp_path / f"audio/{n}.wav", signals, 8000)
    AudioTokenizer(config()).save_pretrained(tmp_path / "model")
    command = ["tokens", str(tmp_path / "model"), str(tmp_path / "audio")]
    command += ["--out", "tokens", "--format", "lhotse"]
    monkeypatch.chdir(tmp_path / "killed")
    # At tokens.json, the second utterance, and the second file of codes.
    for last in (0, 2, 4):
        process = [sys.executable, "-c", KILLED, str(last), *command]
        done = subprocess.run(process, check=False)
        assert done.returncode == -signal.SIGKILL
        left = [file for file in content(".") if Path(file).name.startswith(".")]
        assert left
    assert main(command) == 0
    found = content("tokens")
    monkeypatch.chdir(tmp_path / "whole")
    assert main(command) == 0
    assert found == content("tokens")
