"""Runs become tokenizers with the codes of the recipes; saved ones need no run."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

pytest.importorskip("speechbrain")
pytest.importorskip("safetensors")
soundfile = pytest.importorskip("soundfile")

from saved_runs import TINY, save_run  # noqa: E402

from sb_espnet_vq.errors import (  # noqa: E402
    CheckpointError,
    ConfigError,
    CorpusError,
    ShapeError,
)
from sb_espnet_vq.tokenizer import AudioTokenizer, hub_folder  # noqa: E402

# Of the codes of two signals that only rounding may change.
SAME = 0.99
SIGNALS = 0.3 * torch.randn(3, 4000, generator=torch.Generator().manual_seed(1))
LENGTHS = torch.tensor([4000, 2537, 0])


# A recognizer has no tokens.
@pytest.fixture(scope="module", params=sorted(set(TINY) - {"CTC/fsdd"}))
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    hparams = save_run(folder, request.param)
    return request.param.partition("/")[0], folder, hparams


def codes_of_recipe(recipe, hparams, signals):
    """Return the codes of whole signals, computed as the recipe's train.py does."""
    samples = torch.full((len(signals),), signals.shape[1])
    if recipe == "codec":
        return hparams["codec"].encode(signals, samples)
    if recipe == "wav2vec2":
        frames = hparams["front_end"](signals, samples)
        count = int(hparams["front_end"].lengths(samples)[0])
        return hparams["target_quantiser"].quantiser(frames[:, :count])["codes"]
    frames = hparams["normalize"](hparams["compute_features"](signals), epoch=1)
    stacks = frames.shape[1] // 4
    return hparams["target_quantizer"](
        frames[:, : 4 * stacks].reshape(len(signals), stacks, 40)
    )[..., None]


def test_codes_are_those_of_the_recipe(run):
    recipe, folder, hparams = run
    tokenizer = AudioTokenizer.from_run(folder)
    codes, lengths = tokenizer.encode(SIGNALS)
    expected = codes_of_recipe(recipe, hparams, SIGNALS)
    assert codes.shape == expected.shape and len(codes.unique()) > 3
    assert torch.equal(codes, expected)
    assert lengths.tolist() == [codes.shape[1]] * 3
    seconds = SIGNALS.shape[1] / tokenizer.sample_rate
    assert abs(codes.shape[1] - seconds * tokenizer.frame_rate) <= 2
    assert codes.shape[2] == len(tokenizer.codebook_sizes)
    assert tokenizer.codebook_vectors().shape[:2] == (
        len(tokenizer.codebook_sizes),
        max(tokenizer.codebook_sizes),
    )


def test_a_batch_gives_what_its_rows_give_alone(run):
    tokenizer = AudioTokenizer.from_run(run[1])
    padded = SIGNALS.clone()
    padded[1, 2537:] = 9.0
    codes, lengths = tokenizer.encode(padded, LENGTHS)
    frames, frame_lengths = tokenizer.features(padded, LENGTHS)
    alone, _ = tokenizer.encode(SIGNALS[1:2, :2537])
    frames_alone, _ = tokenizer.features(SIGNALS[1:2, :2537])
    count = int(lengths[1])
    assert count == alone.shape[1] == frame_lengths[1]
    assert (codes[1, :count] == alone[0]).float().mean() >= SAME
    assert bool((codes[1, count:] == -1).all()) and lengths[2] == 0
    assert torch.allclose(frames[1, :count], frames_alone[0], atol=1e-4)
    assert frames.dtype == torch.float32 and not frames[2].any()


def test_a_saved_tokenizer_needs_no_run(run, tmp_path):
    recipe, folder, _ = run
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    before = AudioTokenizer.from_run(copy)
    before.save_pretrained(tmp_path / "saved")
    shutil.rmtree(copy)
    names = {file.name for file in (tmp_path / "saved").iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors"}
    after = AudioTokenizer.from_pretrained(tmp_path / "saved")
    codes, lengths = before.encode(SIGNALS, LENGTHS, n_codebooks=1)
    again, _ = after.encode(SIGNALS, LENGTHS, n_codebooks=1)
    assert codes.shape[2] == 1 and torch.equal(codes, again)
    assert torch.equal(before.features(SIGNALS)[0], after.features(SIGNALS)[0])
    with pytest.raises(ConfigError, match="cannot be used on a stream"):
        after.streaming_encoder()
    if recipe != "codec":
        with pytest.raises(ConfigError, match="no decoder"):
            after.decode(codes)
        return
    audio = after.decode(codes, lengths)
    assert torch.equal(audio, before.decode(codes)) and audio.abs().max() > 0
    alone = after.decode(codes[1:2, : lengths[1]])
    assert torch.allclose(audio[1, : alone.shape[1]], alone[0], atol=1e-6)
    assert not audio[1, alone.shape[1] :].any()
    assert audio.shape == (3, lengths[0] * after.sample_rate / after.frame_rate)


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "codec"
    save_run(folder, "codec/fsdd")
    saved = folder.with_name("saved")
    AudioTokenizer.from_run(folder).save_pretrained(saved)
    return folder, saved


def test_a_file_is_resampled_and_encoded(codec, tmp_path):
    tokenizer = AudioTokenizer.from_pretrained(codec[1])
    soundfile.write(tmp_path / "a.wav", SIGNALS[0].numpy(), tokenizer.sample_rate)
    codes = tokenizer.encode_file(tmp_path / "a.wav", n_codebooks=2)
    assert codes.shape == (50, 2)
    soundfile.write(tmp_path / "b.wav", SIGNALS[0].numpy(), 2 * tokenizer.sample_rate)
    assert tokenizer.encode_file(tmp_path / "b.wav").shape == (25, 4)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(CorpusError, match="empty file"):
        tokenizer.encode_file(tmp_path / "empty.wav")
    (tmp_path / "c.wav").write_bytes(b"no audio")
    with pytest.raises(CorpusError, match="not readable as audio"):
        tokenizer.encode_file(tmp_path / "c.wav")


def test_a_beam_is_that_of_the_codec(run, tmp_path):
    recipe, folder, hparams = run
    tokenizer = AudioTokenizer.from_run(folder)
    if recipe != "codec":
        with pytest.raises(ConfigError, match="no chain of codes to search"):
            tokenizer.encode(SIGNALS, beam=4)
        return
    codes, _ = tokenizer.encode(SIGNALS, n_codebooks=3, beam=4)
    bandwidth = hparams["codec"].bitrate(3)
    assert torch.equal(codes, hparams["codec"].encode(SIGNALS, None, bandwidth, 4))
    assert not torch.equal(codes, tokenizer.encode(SIGNALS, n_codebooks=3)[0])
    soundfile.write(tmp_path / "a.wav", SIGNALS[0].numpy(), 8000, "FLOAT")
    tokens = tokenizer.tokens_of_file(tmp_path / "a.wav", 3, beam=4)
    assert torch.equal(tokens.codes, codes[0])
    # Tokens of any beam are decoded alike.
    assert tokens.source == tokenizer.source(3)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([1.0, 0.6, 0.0]), "Multiply SpeechBrain's relative lengths"),
        (torch.tensor([4001, 1, 1]), r"in \[0, 4000\]"),
        (torch.tensor([1]), r"must be \(3,\)"),
    ],
)
def test_bad_lengths_are_refused(codec, lengths, message):
    with pytest.raises(ShapeError, match=message):
        AudioTokenizer.from_pretrained(codec[1]).encode(SIGNALS, lengths)


def test_a_folder_that_is_no_run_is_refused(tmp_path, codec):
    with pytest.raises(CheckpointError, match="no run of a recipe"):
        AudioTokenizer.from_run(tmp_path)
    with pytest.raises(CheckpointError, match="no config.json"):
        AudioTokenizer.from_pretrained(tmp_path)
    shutil.copytree(codec[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run/save")
    with pytest.raises(CheckpointError, match="no run of a recipe; it has"):
        AudioTokenizer.from_run(tmp_path / "run")
    (tmp_path / "run/hyperparams.yaml").write_text("interpreter: 1\n")
    with pytest.raises(CheckpointError, match="PIQ"):
        AudioTokenizer.from_run(tmp_path / "run")


def test_the_checkpoint_of_another_quantizer_is_refused(tmp_path, codec):
    save_run(tmp_path / "run", "codec/fsdd", quantizer="bsq")
    shutil.rmtree(tmp_path / "run/save")
    shutil.copytree(codec[0] / "save", tmp_path / "run/save")
    with pytest.raises(CheckpointError, match="weights are those of another model"):
        AudioTokenizer.from_run(tmp_path / "run")
    shutil.copytree(codec[1], tmp_path / "saved")
    config = json.loads((tmp_path / "saved/config.json").read_text())
    config["options"]["codec"]["options"]["quantizer"] = "bsq"
    (tmp_path / "saved/config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="weights are those of another model"):
        AudioTokenizer.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "install a newer version"),
        ({"kind": "other"}, "kind must be one of"),
        ({"options": {"codec": {"class": "os.system"}}}, "not one of the classes"),
        ({"options": {"codec": "os.system"}}, "not a plain word"),
    ],
)
def test_a_configuration_can_import_nothing_else(codec, change, message):
    config = json.loads((codec[1] / "config.json").read_text())
    with pytest.raises(ConfigError, match=message):
        AudioTokenizer(config | change)


def test_incomplete_weights_are_refused(codec, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(codec[1], tmp_path / "saved")
    file = tmp_path / "saved/model.safetensors"
    tensors = load_file(file)
    tensors.pop("codec.decoder.layers.0.bias")
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match="weights are those of another model"):
        AudioTokenizer.from_pretrained(tmp_path / "saved")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="cannot be read"):
        AudioTokenizer.from_pretrained(tmp_path / "saved")


def test_a_failed_save_leaves_the_old_one(codec, tmp_path, monkeypatch):
    shutil.copytree(codec[1], tmp_path / "saved")
    before = {f.name: f.read_bytes() for f in (tmp_path / "saved").iterdir()}
    tokenizer = AudioTokenizer.from_pretrained(codec[1])

    def fail(module, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(hub_folder, "write_weights", fail)
    with pytest.raises(OSError, match="no space"):
        tokenizer.save_pretrained(tmp_path / "saved")
    assert {f.name: f.read_bytes() for f in (tmp_path / "saved").iterdir()} == before


def test_an_edited_model_card_stays(codec, tmp_path):
    shutil.copytree(codec[1], tmp_path / "saved")
    (tmp_path / "saved/README.md").write_text("mine")
    AudioTokenizer.from_pretrained(codec[1]).save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved/README.md").read_text() == "mine"


def test_push_to_hub_uploads_the_saved_files(codec, monkeypatch):
    import huggingface_hub

    uploaded = []

    class Repository:
        repo_id = "me/codec"

    def upload(self, *, repo_id, folder_path, **_):
        uploaded.append((repo_id, {file.name for file in folder_path.iterdir()}))
        return "address"

    api = huggingface_hub.HfApi
    monkeypatch.setattr(api, "create_repo", lambda *_, **__: Repository)
    monkeypatch.setattr(api, "upload_folder", upload)
    tokenizer = AudioTokenizer.from_pretrained(codec[1])
    assert tokenizer.push_to_hub("me/codec") == "address"
    assert uploaded == [("me/codec", {"README.md", "config.json", "model.safetensors"})]


def test_a_saved_codec_needs_no_toolkit(codec):
    code = (
        "import sys\n"
        "sys.modules.update({'speechbrain': None, 'espnet2': None})\n"
        "from sb_espnet_vq.tokenizer import AudioTokenizer\n"
        "import torch\n"
        f"tokenizer = AudioTokenizer.from_pretrained({str(codec[1])!r})\n"
        "print(*tokenizer.encode(torch.ones(1, 4000))[0].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "50", "4"], done.stderr
