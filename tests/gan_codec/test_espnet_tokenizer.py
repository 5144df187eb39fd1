"""Codecs of ESPnet's training as tokenizers: codes and audio of ESPnet's own tools."""

import pytest
import soundfile
import torch
from espnet2.bin.gan_codec_inference import AudioCoding
from saved_codecs import save, swapped
from tiny_codecs import HOP, RATE
from without_package import run_without_package, script_of_page

from sb_espnet_vq.cli.main import main
from sb_espnet_vq.errors import CheckpointError
from sb_espnet_vq.tokenizer import AudioTokenizer

SIGNALS = 0.3 * torch.randn(2, 60 * HOP, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("codec", ["soundstream", "vq_encodec", "vq_dac"])
def test_codes_and_audio_are_those_of_espnet(codec, tmp_path):
    config, model = save(tmp_path / "exp", codec, {"quantizer_kmeans_init": False})
    stock = AudioCoding(config, model)
    model.rename(model.with_name("latest.pth"))
    tokenizer = AudioTokenizer.from_run(tmp_path / "exp")
    assert (tokenizer.sample_rate, tokenizer.frame_rate) == (RATE, RATE / HOP)
    codes, lengths = tokenizer.encode(SIGNALS)
    assert len(codes.unique()) > 3 and lengths.tolist() == [60, 60]
    for row, signal in zip(codes, SIGNALS, strict=True):
        expected = stock(signal)
        assert torch.equal(row, expected["codes"][:, 0].T)
        audio = tokenizer.decode(row[None])[0]
        assert torch.allclose(audio, expected["resyn_audio"].flatten(), atol=1e-5)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AudioTokenizer.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.encode(SIGNALS, n_codebooks=2)[0], codes[..., :2])
    assert not [name for name in again.state_dict() if "discriminator" in name]


def test_the_beam_of_the_codec_is_the_default(tmp_path):
    conf = {"quantizer_kmeans_init": False}
    config, model = save(tmp_path / "exp", "vq_soundstream", conf, beam=4)
    stock = AudioCoding(config, model)
    model.rename(model.with_name("latest.pth"))
    tokenizer = AudioTokenizer.from_run(tmp_path / "exp")
    codes, _ = tokenizer.encode(SIGNALS[:1])
    assert torch.equal(codes[0], stock(SIGNALS[0])["codes"][:, 0].T)
    assert not torch.equal(codes, tokenizer.encode(SIGNALS[:1], beam=1)[0])


def test_a_run_that_cannot_be_held_is_refused(tmp_path):
    with swapped("bsq"):
        save(tmp_path / "exp", "soundstream")
    with pytest.raises(CheckpointError, match="has the training finished"):
        config = tmp_path / "exp/config.yaml"
        text = config.read_text()
        config.write_text(text.replace("needs_sb_espnet_vq", "unused"))
        AudioTokenizer.from_run(tmp_path / "exp")
    config.write_text(text)
    with pytest.raises(CheckpointError, match="trained with --swap"):
        AudioTokenizer.from_run(tmp_path / "exp")
    config.write_text("{}")
    with pytest.raises(CheckpointError, match="not the configuration"):
        AudioTokenizer.from_run(tmp_path / "exp")


# One process for all codecs, since importing ESPnet takes seconds.
SCRIPT = """
import torch
from espnet2.bin.gan_codec_inference import AudioCoding
from espnet2.main_funcs.pack_funcs import unpack

signal, codecs = torch.load("inputs.pt")
results = {}
for codec in codecs:
    files = {
        "train_config": f"{codec}/config.yaml", "model_file": f"{codec}/latest.pth"
    }
    archived = unpack(f"{codec}/model.zip", f"{codec}/unpacked")
    assert files.keys() == archived.keys()
    for form, files in (("files", files), ("archive", archived)):
        results[codec, form] = AudioCoding(**files)(signal)
torch.save(results, "results.pt")
"""


@pytest.mark.slow
def test_stock_espnet_loads_an_export(tmp_path):
    names, tokenizers = ["vq_soundstream", "vq_encodec", "vq_dac"], []
    for name in names:
        run = tmp_path / f"run_{name}"
        _, model = save(run, name, {"quantizer_kmeans_init": False})
        model.rename(model.with_name("latest.pth"))
        command = ["export", str(run), str(tmp_path / name), "--to", "espnet"]
        assert main(command) == 0
        tokenizers.append(AudioTokenizer.from_run(run))
    torch.save((SIGNALS[0], names), tmp_path / "inputs.pt")
    soundfile.write(tmp_path / "speech.wav", SIGNALS[0].numpy(), RATE)
    page = script_of_page("AudioCoding").replace("my_codec", "vq_dac")
    printed, _ = run_without_package(SCRIPT + page, tmp_path)
    assert "torch.Size([4, 1, 60]) torch.Size([1, 1, 480])" in printed
    results = torch.load(tmp_path / "results.pt")
    for name, tokenizer in zip(names, tokenizers, strict=True):
        codes, _ = tokenizer.encode(SIGNALS[:1])
        audio = tokenizer.decode(codes)[0]
        for form in ("files", "archive"):
            result = results[name, form]
            assert torch.equal(result["codes"][:, 0].T, codes[0])
            assert torch.allclose(result["resyn_audio"].flatten(), audio, atol=1e-5)


def test_stock_espnet_cannot_hold_another_quantizer(tmp_path, capsys):
    _, model = save(tmp_path / "exp", "vq_soundstream", quantizer="bsq")
    model.rename(model.with_name("latest.pth"))
    command = ["export", str(tmp_path / "exp"), str(tmp_path / "exported")]
    assert main([*command, "--to", "espnet"]) == 2
    assert "this codec has the quantizer 'bsq'" in capsys.readouterr().err
    assert not (tmp_path / "exported").exists()
