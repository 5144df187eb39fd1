"""Encoders in SpeechBrain's fine-tuning recipes, without this package."""

import subprocess
import sys

import pytest
import torch

pytest.importorskip("speechbrain")
pytest.importorskip("safetensors")

from saved_runs import TINY, save_run

from sb_espnet_vq.cli.main import main
from sb_espnet_vq.tokenizer import AudioTokenizer

# 28 feature frames: whole stacks, since only the recipe of this package masks the rest.
SIGNALS = 0.3 * torch.randn(2, 4320, generator=torch.Generator().manual_seed(1))
CONVOLUTIONS = {
    "class": "speechbrain.lobes.models.convolution.ConvolutionFrontEnd",
    "options": {
        "input_shape": [8, 10, 80],
        "num_blocks": 2,
        "num_layers_per_block": 1,
        "out_channels": [4, 2],
        "kernel_sizes": [3, 3],
        "strides": [2, 2],
        "residuals": [False, False],
    },
}
# What train_with_bestrq.py and train_with_wav2vec.py do until the encoder's output.
BLOCKED = """
import sys
sys.modules["sb_espnet_vq"] = None
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.parameter_transfer import Pretrainer
folder, signals = sys.argv[1], torch.load(sys.argv[2])
with open(f"{folder}/networks.yaml") as file:
    hparams = load_hyperpyyaml(file)
def load(**names):
    modules = {name: hparams[name] for name in names}
    paths = {name: f"{folder}/{file}" for name, file in names.items()}
    pretrainer = Pretrainer(folder + "/collected", modules, paths)
    pretrainer.collect_files()
    pretrainer.load_collected()
    for module in modules.values():
        module.eval()
lengths = torch.ones(len(signals))
with torch.no_grad():
    if "pt_model" in hparams:
        load(pt_model="model.ckpt", normalize="normalize.ckpt")
        frames = hparams["compute_features"](signals)
        frames = hparams["normalize"](frames, lengths)
        encoded = hparams["enc"](hparams["CNN"](frames), lengths)
    else:
        load(extractor="latent_extractor.ckpt", encoder_wrapper="latent_encoder.ckpt")
        latents = hparams["extractor"](signals)
        encoded = hparams["encoder_wrapper"](latents, lengths)["embeddings"]
torch.save(encoded, sys.argv[2])
"""


def saved(folder, name):
    """Save a run that SpeechBrain's recipe can hold; return its tokenizer."""
    save_run(folder / "run", name)
    tokenizer = AudioTokenizer.from_run(folder / "run")
    if name.startswith("BEST-RQ"):
        options = dict(tokenizer.config["options"], front_end=CONVOLUTIONS)
        options["compute_features"]["options"]["n_mels"] = 80
        options["statistics"] = 80
        quantizer = options["target_quantizer"]["options"]
        quantizer["input_dim"] = 320
        tokenizer = AudioTokenizer(tokenizer.config | {"options": options})
        tokenizer.model.mean += torch.linspace(-40, 0, 80)
    tokenizer.save_pretrained(folder / "saved")
    return tokenizer


@pytest.mark.parametrize("name", ["BEST-RQ/fsdd", "wav2vec2/fsdd_waveform"])
def test_speechbrain_computes_the_same_features_without_this_package(name, tmp_path):
    tokenizer = saved(tmp_path, name)
    exported, file = tmp_path / "exported", tmp_path / "signals.pt"
    arguments = [str(tmp_path / "saved"), str(exported), "--to", "speechbrain-finetune"]
    assert main(["export", *arguments]) == 0
    torch.save(SIGNALS, file)
    command = [sys.executable, "-c", BLOCKED, str(exported), str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "not loaded" not in done.stderr and "missing" not in done.stderr
    expected, _ = tokenizer.features(SIGNALS)
    features = torch.load(file)[:, : expected.shape[1]]
    assert expected.std() > 0.1 and torch.allclose(features, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("BEST-RQ/fsdd", "CNN is StackFrames, which SpeechBrain does not have"),
        ("wav2vec2/fsdd", "starts from the waveform"),
        ("codec/fsdd", "not for codec"),
    ],
)
def test_what_speechbrain_cannot_hold_is_refused(name, message, tmp_path, capsys):
    assert name in TINY
    save_run(tmp_path / "run", name)
    command = ["export", str(tmp_path / "run"), str(tmp_path / "exported")]
    assert main([*command, "--to", "speechbrain-finetune"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "exported").exists()
    assert main([*command, "--to", "hub"]) == 0
    assert AudioTokenizer.from_pretrained(tmp_path / "exported").sample_rate >= 8000
