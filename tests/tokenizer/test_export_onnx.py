"""Exports to ONNX, run by onnxruntime without torch and without this package."""

import json

import numpy
import pytest
import torch

pytest.importorskip("speechbrain")
pytest.importorskip("safetensors")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
soundfile = pytest.importorskip("soundfile")

from saved_runs import save_run  # noqa: E402
from without_package import run_without_package, script_of_page  # noqa: E402

from sb_espnet_vq.cli.main import main  # noqa: E402
from sb_espnet_vq.tokenizer import AudioTokenizer, export_onnx  # noqa: E402

MODELS = {"codec": "codec/fsdd", "encoder": "wav2vec2/fsdd_waveform"}
# Most of the time goes into tracing, by layer.
SMALLER = {"codec": {"ratios": [8, 10], "n_codebooks": 2}, "encoder": {}}
# Lengths that are no multiple of the hop, and one batch of a single frame.
SHAPES = ((2, 4003), (1, 2999), (3, 80))
SCRIPT = """
import json
import numpy
import onnxruntime

inputs, results = numpy.load("inputs.npz"), {}
for key in inputs:
    model, part, _ = key.split(",")
    with open(f"{model}/model.json") as file:
        names = json.load(file)["files"][f"{part}.onnx"]
    session = onnxruntime.InferenceSession(f"{model}/{part}.onnx")
    results[key] = session.run([*names["output"]], {[*names["input"]][0]: inputs[key]})
numpy.savez("results.npz", **{key: value[0] for key, value in results.items()})
assert "torch" not in sys.modules
"""


def parts(tokenizer, signals):
    """Return input and expected output of every file."""
    codes, _ = tokenizer.encode(signals)
    frames, _ = tokenizer.features(signals)
    if not tokenizer.model.has_decoder:
        return {"encode": (signals, codes), "features": (signals, frames)}
    quantizer = tokenizer.model.quantizer
    return {
        "encode": (signals, codes),
        "decode": (codes, tokenizer.decode(codes)),
        "quantizer_encode": (frames, codes),
        "quantizer_decode": (codes, quantizer.decode(codes)),
    }


@pytest.mark.slow
def test_onnxruntime_gives_the_same_codes_and_audio(tmp_path):
    inputs, expected = {}, {}
    for model, run in MODELS.items():
        save_run(tmp_path / f"{model}_run", run, **SMALLER[model])
        command = ["export", str(tmp_path / f"{model}_run"), str(tmp_path / model)]
        assert main([*command, "--to", "onnx"]) == 0
        tokenizer = AudioTokenizer.from_run(tmp_path / f"{model}_run")
        for shape in SHAPES:
            for part, (given, result) in parts(
                tokenizer, 0.3 * torch.randn(*shape)
            ).items():
                key = f"{model},{part},{shape[1]}"
                inputs[key], expected[key] = given.numpy(), result.numpy()
        described = json.loads((tmp_path / model / "model.json").read_text())
        assert described["sample_rate"] / described["hop"] == tokenizer.frame_rate
        assert described["codebook_sizes"] == list(tokenizer.codebook_sizes)
        names = {file.name for file in (tmp_path / model).iterdir()}
        assert names == {"model.json", *described["files"]}
    numpy.savez(tmp_path / "inputs.npz", **inputs)
    speech = 0.1 * torch.randn(4003)
    soundfile.write(tmp_path / "speech.wav", speech.numpy(), 8000)
    page = script_of_page("onnxruntime").replace("my_onnx", "codec")
    run_without_package(SCRIPT + page, tmp_path)
    again, rate = soundfile.read(tmp_path / "again.wav")
    assert again.shape == (4003,) and again.std() > 0.1 and rate == 8000
    results = numpy.load(tmp_path / "results.npz")
    assert len(inputs) == len(results) == 18
    different = 0
    for key, result in expected.items():
        assert result.shape == results[key].shape and result.size, key
        if result.dtype == numpy.int64:
            assert len(numpy.unique(result)) > 3 or result.shape[1] < 10
            different += (result != results[key]).sum()
        else:
            assert result.std() > 0.1
            numpy.testing.assert_allclose(results[key], result, atol=1e-5)
    # Codes may differ where two scores are equal up to rounding.
    assert different <= 1


def test_a_missing_exporter_is_named(tmp_path, capsys, monkeypatch):
    save_run(tmp_path / "run", "codec/fsdd")
    monkeypatch.setattr(export_onnx, "find_spec", lambda name: None)
    command = ["export", str(tmp_path / "run"), str(tmp_path / "exported")]
    assert main([*command, "--to", "onnx"]) == 2
    assert "pip install 'sb_espnet_vq[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "exported").exists()


def test_a_full_disk_leaves_the_old_export(tmp_path, capsys, monkeypatch):
    save_run(tmp_path / "run", "codec/fsdd")
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported/encode.onnx").write_bytes(b"old")

    class Program:
        def save(self, file):
            if file.name == "decode.onnx":
                raise OSError(28, "No space left on device", str(file))
            file.write_bytes(b"new")

    monkeypatch.setattr(export_onnx, "_program", lambda *_: Program())
    command = ["export", str(tmp_path / "run"), str(tmp_path / "exported")]
    assert main([*command, "--to", "onnx"]) == 2
    assert "No space left" in capsys.readouterr().err
    (file,) = (tmp_path / "exported").iterdir()
    assert file.read_bytes() == b"old"
