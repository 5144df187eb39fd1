"""The scripts of docs/tokenizer.md run on a run of the codec recipe."""

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("speechbrain")
pytest.importorskip("safetensors")
soundfile = pytest.importorskip("soundfile")

from saved_runs import save_run  # noqa: E402

from sb_espnet_vq.cli.main import main  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "tokenizer.md"


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    save_run(tmp_path / "results/codec/fsdd/rvq/1234", "codec/fsdd")
    monkeypatch.chdir(tmp_path)
    # Those for other programs are run by the tests of the exports.
    page, _, _ = PAGE.read_text().partition("## In other programs")
    return re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)


def test_scripts_run(scripts, capsys):
    encode, read, save = scripts
    scope: dict = {}
    exec(encode, scope)
    assert scope["codes"].shape == (2, 100, 4) and scope["coarse"].shape == (2, 100, 2)
    assert scope["audio"].shape == (2, 8000) and scope["frames"].shape == (2, 100, 8)
    assert scope["code_lengths"].tolist() == [100, 65]
    capsys.readouterr()
    exec(save, scope)
    assert capsys.readouterr().out == "8000 100.0 (16, 16, 16, 16)\n"
    codes, _ = scope["again"].encode(scope["signals"], scope["lengths"])
    assert torch.equal(codes, scope["codes"])
    soundfile.write("a.wav", scope["signals"][0].numpy(), 8000)
    main(["tokens", "my_tokenizer", "a.wav", "--out", "tokens"])
    packed = ["--out", "packed", "--format", "packed", "--n_codebooks", "3"]
    main(["tokens", "my_tokenizer", "a.wav", *packed])
    capsys.readouterr()
    exec(read, scope)
    shown = "torch.Size([100, 3]) 8000 (16, 16, 16)\n"
    assert capsys.readouterr().out == shown
    assert (scope["codes"][:, :3] == scope["packed"].codes.numpy()).all()
