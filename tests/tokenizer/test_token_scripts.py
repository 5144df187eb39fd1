"""The scripts of docs/token-files.md and docs/fit.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("safetensors")
soundfile = pytest.importorskip("soundfile")
for package in ("constriction", "kaldiio", "lhotse", "pandas", "pyarrow", "sklearn"):
    pytest.importorskip(package)

from test_token_formats import config  # noqa: E402

from sb_espnet_vq.cli.main import main  # noqa: E402
from sb_espnet_vq.tokenizer import AudioTokenizer  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs"
# Runs each script where this package cannot be imported, and saves what it has read.
WITHOUT_THIS_PACKAGE = """
import sys
sys.modules["sb_espnet_vq"] = None
import numpy
for name in sys.argv[1:]:
    scope = {}
    exec(open(name).read(), scope)
    numpy.save(f"{name}.npy", scope["codes"])
"""


def scripts(page):
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)


@pytest.fixture
def tokenizer(tmp_path, monkeypatch):
    """Return a tokenizer, saved in the working folder beside a folder of audio."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    tokenizer = AudioTokenizer(config())
    tokenizer.save_pretrained("my_tokenizer")
    Path("my_audio").mkdir()
    soundfile.write("my_audio/a.wav", 0.3 * torch.randn(1000).numpy(), 8000)
    return tokenizer


def test_scripts_read_every_format_without_this_package(tokenizer):
    import numpy

    formats = ["npz", "packed", "coded", "kaldi", "lhotse", "parquet"]
    for folder in formats:
        more = ["--format", folder]
        if folder == "coded":
            more = ["--format", "packed", "--entropy_coding"]
        command = ["tokens", "my_tokenizer", "my_audio", "--out", folder]
        assert main(command + more) == 0
    *read, _ = scripts("token-files.md")
    # Two scripts read Parquet files.
    assert len(read) == len(formats) + 1
    for number, script in enumerate(read):
        Path(str(number)).write_text(script)
    names = [str(number) for number in range(len(read))]
    subprocess.run([sys.executable, "-c", WITHOUT_THIS_PACKAGE, *names], check=True)
    expected = tokenizer.encode_file("my_audio/a.wav").numpy()
    assert expected.shape == (50, 3)
    for name in names:
        assert (numpy.load(f"{name}.npy") == expected).all()


@pytest.mark.slow
def test_the_script_of_a_cluster_runs_on_a_local_ray(tokenizer):
    pytest.importorskip("ray")
    from pyarrow import parquet

    Path("cluster.py").write_text(scripts("token-files.md")[-1])
    quiet = {"RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"}
    env = os.environ | quiet
    subprocess.run([sys.executable, "cluster.py"], check=True, env=env)
    (row,) = parquet.read_table("ray_tokens").to_pylist()
    expected = tokenizer.tokens_of_file("my_audio/a.wav")
    assert row["codes"] == expected.codes.tolist() and row["samples"] == 1000


def test_the_page_of_k_means_loads_what_is_fitted(tokenizer):
    assert main(["fit", "my_audio", "--out", "units", "--codebook_size", "4"]) == 0
    scope: dict = {}
    for script in scripts("fit.md"):
        exec(script, scope)
    assert scope["centres"].shape == (1, 4, 80)
    assert (scope["labels"] == scope["codes"][0, :, 0].numpy()).all()
