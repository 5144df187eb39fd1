"""The scripts of docs/import.md run on models with random weights."""

import re
from pathlib import Path

import pytest
import torch
from foreign_quantizers import FOREIGN

pytest.importorskip("speechbrain")
pytest.importorskip("safetensors")
transformers = pytest.importorskip("transformers")

from sb_espnet_vq.cli.main import main  # noqa: E402

PAGE = (Path(__file__).parents[2] / "docs" / "import.md").read_text(encoding="utf-8")


def test_scripts_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = FOREIGN["encodec"]().module
    state = {f"quantizer.vq.{k}": v for k, v in module.state_dict().items()}
    torch.save({"state": state}, "checkpoint.pt")
    config = transformers.EncodecConfig(
        hidden_size=16, codebook_dim=16, codebook_size=32, num_filters=4,
        num_lstm_layers=1, upsampling_ratios=[4, 5], target_bandwidths=[12.0],
        sampling_rate=8000,
    )  # fmt: skip
    model = transformers.EncodecModel(config)
    for level in model.quantizer.layers:
        level.codebook.embed.normal_()
    model.save_pretrained("encodec_24khz")
    commands = re.search(r"^```\n(.*?)^```", PAGE, re.M | re.S)[1].splitlines()
    for line in commands:
        assert main(line.split("#")[0].split()[1:]) == 0, line
    quantizer, codec, training = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    capsys.readouterr()
    scope: dict = {}
    exec(quantizer, scope)
    assert capsys.readouterr().out.startswith("encodec (32, 32, 32) ")
    assert set(scope["back"]) == set(state)
    exec(codec, scope)
    assert scope["errors"][-1] < scope["errors"][0]
    assert main(["export", "my_encodec_refitted", "refitted", "--to", "original"]) == 0
    again = transformers.EncodecModel.from_pretrained("refitted").quantizer
    own = scope["tokenizer"].codebook_vectors()
    for level, vectors in zip(again.layers, own, strict=True):
        assert torch.equal(level.codebook.embed, vectors)
    exec(training, scope)
    vectors = scope["codec"].quantizer.codebook_vectors()
    assert torch.equal(vectors, scope["imported"].codebook_vectors())
    assert torch.equal(vectors[0], state["quantizer.vq.layers.0._codebook.embed"])


def test_layouts_are_those_of_the_package():
    from sb_espnet_vq.tokenizer.layouts import LAYOUTS

    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == ["layout", *LAYOUTS]
