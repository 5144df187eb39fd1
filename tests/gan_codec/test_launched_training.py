"""ESPnet's programs started by the launcher, as codec.sh does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from test_codecs import speech, train_arguments, train_configuration
from tiny_codecs import frames_of, streams_of

__all__ = ["speech"]

LAUNCHER = [sys.executable, "-m", "sb_espnet_vq.run"]
HERE = Path(__file__).parent


def launch(*arguments, status=0):
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [*LAUNCHER, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, done.stderr[-3000:]
    return done


SWAP = "espnet2.gan_codec.shared.quantizer.residual_vq.ResidualVectorQuantizer"


def train_stock(speech, out, *swap):
    """Train ESPnet's own `soundstream`; return its configuration and its weights."""
    configure(out, "vq_soundstream", named="soundstream")
    launch(*swap, "-m", "espnet2.bin.gan_codec_train", *train_arguments(speech, out))
    config = yaml.safe_load((out / "exp/config.yaml").read_text())
    for where in ("config", "output_dir"):
        config.pop(where)
    weights = torch.load(out / "exp/latest.pth", weights_only=True)
    return config, weights


@pytest.mark.slow
def test_a_swap_changes_the_codes_of_stock_soundstream_and_nothing_else(
    speech, tmp_path
):
    quantizer = "codec.generator.quantizer."
    stock, stock_weights = train_stock(speech, tmp_path / "stock")
    swap = ("--swap", f"{SWAP}=bsq")
    config, weights = train_stock(speech, tmp_path, *swap)
    # The saved configuration records it for loading.
    assert config["codec_conf"].pop("needs_sb_espnet_vq") == " ".join(swap)
    assert config == stock
    ours, theirs = (
        {k: v.shape for k, v in each.items() if not k.startswith(quantizer)}
        for each in (weights, stock_weights)
    )
    assert ours == theirs and weights.keys() != stock_weights.keys()
    inference = (
        *("-m", "espnet2.bin.gan_codec_inference"),
        *("--output_dir", tmp_path / "out", "--num_workers", "0"),
        *("--train_config", tmp_path / "exp/config.yaml"),
        *("--model_file", tmp_path / "exp/latest.pth"),
        *("--data_path_and_name_and_type", f"{speech}/wav.scp,audio,sound"),
    )
    refused = launch(*inference, status=1).stderr
    assert (
        f"start the program as `python -m sb_espnet_vq.run {' '.join(swap)}" in refused
    )
    assert not (tmp_path / "out/codec/s0.npy").exists()
    launch(*swap, *inference)
    # One code of bsq a frame, where the stock codec has four.
    assert np.load(tmp_path / "out/codec/s0.npy").shape == (1, 1, 200)


def configure(out, codec, named=None, **conf):
    out.mkdir(parents=True, exist_ok=True)
    config = train_configuration(codec, **conf) | {"codec": named or codec}
    (out / "train.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.slow
# The others run in this process, in test_codecs.py.
@pytest.mark.parametrize("codec", ["vq_soundstream", "vq_hificodec"])
def test_the_stock_programs_run(codec, speech, tmp_path):
    configure(tmp_path, codec, quantizer="bsq")
    launch("-m", "espnet2.bin.gan_codec_train", *train_arguments(speech, tmp_path))
    launch(
        *("-m", "espnet2.bin.gan_codec_inference", "--output_dir", tmp_path / "out"),
        *("--train_config", tmp_path / "exp/config.yaml"),
        *("--model_file", tmp_path / "exp/latest.pth"),
        *("--data_path_and_name_and_type", f"{speech}/wav.scp,audio,sound"),
        *("--target_bandwidth", "4", "--num_workers", "0"),
    )
    shape = (streams_of(codec, 1), 1, frames_of(codec, 1600))
    assert np.load(tmp_path / "out/codec/s0.npy").shape == shape


@pytest.mark.slow
def test_without_the_launcher_espnet_names_its_own_codecs(speech, tmp_path):
    """As described in docs/launcher.md."""
    configure(tmp_path, "vq_soundstream")
    done = subprocess.run(
        [sys.executable, "-m", "espnet2.bin.gan_codec_train"]
        + train_arguments(speech, tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "vq_soundstream" in done.stderr and "'soundstream'" in done.stderr


@pytest.mark.slow
def test_spawned_workers_know_the_codecs_and_agree(speech, tmp_path):
    configure(tmp_path, "vq_soundstream", quantizer="rvq")
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    launch("-m", "two_ranks", port, *train_arguments(speech, tmp_path))
    states = [
        torch.load(tmp_path / f"exp/quantizer.{rank}.pt", weights_only=True)
        for rank in range(2)
    ]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    # It has learned: ESPnet's codebooks start as zeros, ours from the speech.
    assert states[0]["vq.layers.0._codebook.inited"].item() == 1
