"""`sbvq distortion`: frames, quantizers, scores and table."""

import csv
import json

import pytest
import torch

from sb_espnet_vq import ConfigError
from sb_espnet_vq.bench.distortion.data import draw_batches, read_speech
from sb_espnet_vq.bench.distortion.measure import share_used, snr
from sb_espnet_vq.bench.distortion.model import Sizes
from sb_espnet_vq.bench.distortion.named import make_model, parse
from sb_espnet_vq.bench.distortion.others import OTHERS
from sb_espnet_vq.cli.main import main

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("torchaudio")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Ten recordings of five speakers, each speaker with a pitch."""
    folder = tmp_path_factory.mktemp("speech")
    generator = torch.Generator().manual_seed(0)
    lines = ["wav,spk_id"]
    for number in range(10):
        time = torch.arange(16_000) / 16_000
        pitch = 200 + 300 * (number % 5)
        sound = torch.sin(6.2832 * pitch * time) * (1 + torch.sin(20 * time)) / 4
        sound += 0.05 * torch.randn(16_000, generator=generator)
        soundfile.write(folder / f"{number}.wav", sound.numpy(), 16_000)
        lines.append(f"{number}.wav,s{number % 5}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def test_a_fifth_of_the_speakers_is_held_out(manifest):
    speech = read_speech(None, manifest, lambda line: None)
    assert speech.about["train"]["speakers"] == 4
    assert speech.about["test"] == {
        "recordings": 2,
        "speakers": 1,
        "minutes": 0.0,
        "frames": 202,
    }
    assert speech.train.shape == (808, 80) and speech.test.shape == (202, 80)
    torch.testing.assert_close(speech.train.mean(0), torch.zeros(80), atol=1e-4, rtol=0)
    torch.testing.assert_close(speech.train.std(0), torch.ones(80))
    # Of unknown speakers, recordings are held out.
    speech = read_speech(manifest.parent, None, lambda line: None)
    assert "speakers" not in speech.about["test"]
    assert speech.about["test"]["recordings"] == 2


def test_every_frame_is_drawn_once_in_an_epoch():
    frames = torch.arange(10.0)[:, None]
    drawn = torch.cat(list(draw_batches(frames, 5, 4, seed=0)))
    for epoch in drawn.split(10):
        assert torch.equal(epoch.sort(0).values, frames)
    assert not torch.equal(drawn[:10], drawn[10:])


def test_scores():
    x = torch.tensor([[11.0, 0.0], [9.0, 0.0]])
    # Without the mean the variance is 2, not 202.
    assert snr(x, x + torch.tensor([0.1, 0.1])) == pytest.approx(16.9897, abs=1e-3)
    assert share_used(torch.tensor([[0, 3], [0, 2]]), (4, 4)) == 0.375


@pytest.mark.parametrize("name", ["rvq", "bsq", "rvq:code_dim=4", *OTHERS])
def test_every_model_learns_and_decodes_its_codes(name):
    package = OTHERS[name].module.partition(".")[0] if name in OTHERS else "torch"
    pytest.importorskip(package)
    torch.manual_seed(0)
    x = torch.randn(1000, 12) * torch.linspace(2, 0.5, 12)
    model = make_model(*parse(name), Sizes(12, 16, 3), lr=1e-2)
    model.train(draw_batches(x, 40, 500, seed=0))
    codes = model.encode(x, 1)
    assert codes.shape == (1000, len(model.sizes)) and codes.dtype == torch.int64
    assert int(codes.max()) < max(model.sizes) and int(codes.min()) == 0
    assert snr(x, model.decode(codes)) > 0.5


def test_options_are_read():
    text = 'rvq:codebook_size=4,nested={"a": [1, 2]},word=some'
    assert parse(text)[1] == {
        "codebook_size": 4,
        "nested": {"a": [1, 2]},
        "word": "some",
    }
    for wrong, reason in (("rvqq", "unknown quantizer 'rvqq'"), ("rvq:a", "option=")):
        with pytest.raises(ConfigError, match=reason):
            parse(wrong)
    for wrong, reason in (
        ("rvq:nothing=1", "nothing"),
        ("class_partitioned:num_classes=2", "depend on labels"),
        ("faiss:depth=1", "only beam"),
    ):
        pytest.importorskip("faiss")
        with pytest.raises(ConfigError, match=reason):
            make_model(*parse(wrong), Sizes(12, 16, 3), lr=1e-2)


def test_the_command_writes_table_csv_and_json(manifest, tmp_path, capsys):
    rows, about = tmp_path / "a.csv", tmp_path / "a.json"
    sizes = ["--codebook_size=16", "--n_codebooks=3", "--batches=3", "--threads=1"]
    command = ["distortion", "--manifest", str(manifest), "--batch_frames=300", *sizes]
    files = ["--csv", str(rows), "--json", str(about)]
    options = ["--beams", "4", "--seeds", "0", "1", "--refit_rounds", "2"]
    assert main([*command, *options, *files, "rvq", "vq:codebook_size=32"]) == 0
    with rows.open() as file:
        written = list(csv.DictReader(file))
    found = {(row["name"], row["beam"], row["seed"]): row for row in written}
    expected = [("rvq", 1), ("rvq", 4), ("rvq, refitted", 1), ("rvq, refitted", 4)]
    expected += [("vq:codebook_size=32", 1)]
    assert list(found) == [
        (name, str(beam), seed)
        for group in (expected[:4], expected[4:])
        for seed in "01"
        for name, beam in group
    ]
    for seed in "01":
        snrs = [float(found[name, str(beam), seed]["snr"]) for name, beam in expected]
        assert snrs[1] > snrs[0] and snrs[2] != snrs[0]
    assert [row["bits"] for row in written[::4][:2]] == ["12.0", "12.0"]
    assert written[-1]["bits"] == "5.0"
    assert len(json.loads(about.read_text())["results"]) == len(written)
    table = capsys.readouterr().out
    assert table.count("rvq, refitted") == 2 and " ± " in table
    # Invalid requests are refused before anything is trained.
    for wrong, reason in (
        ([*command, "rvq", "vq:size=2"], "no option 'size'"),
        (["distortion", "rvq"], "--data_folder or --manifest"),
        (["distortion", "--manifest", str(tmp_path / "no.csv")], "no such manifest"),
    ):
        assert main(wrong) == 2
        captured = capsys.readouterr()
        assert reason in captured.err and "batch" not in captured.err
