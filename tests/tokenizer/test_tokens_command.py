"""``sbvq tokens`` and ``sbvq decode``: exact, resumable, sharded, errors by name."""

import shutil

import pytest
import torch

from sb_espnet_vq.cli.main import main

pytest.importorskip("speechbrain")
pytest.importorskip("safetensors")
soundfile = pytest.importorskip("soundfile")

from saved_runs import save_run  # noqa: E402

from sb_espnet_vq.tokenizer import (  # noqa: E402
    AudioTokenizer,
    npz_file,
    packed_file,
)


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_run(folder / "run", "codec/fsdd")
    tokenizer = AudioTokenizer.from_run(folder / "run")
    tokenizer.save_pretrained(folder / "saved")
    save_run(folder / "other", "codec/fsdd", n_codebooks=3)
    return folder


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    (folder / "sub").mkdir()
    for number, name in enumerate(["a.wav", "b c.flac", "sub/a.wav"]):
        signal = 0.3 * torch.randn(1000 + 333 * number)
        soundfile.write(folder / name, signal.numpy(), 8000)
    return folder


def run(*arguments):
    return main([str(argument) for argument in arguments])


def expected(codec, audio, name):
    return AudioTokenizer.from_run(codec / "run").tokens_of_file(audio / name)


@pytest.mark.parametrize(("form", "read"), [("npz", npz_file), ("packed", packed_file)])
def test_tokens_and_audio_are_those_of_the_tokenizer(
    codec, audio, tmp_path, form, read
):
    out, wavs = tmp_path / "tokens", tmp_path / "wavs"
    assert run("tokens", codec / "run", audio, "--out", out, "--format", form) == 0
    files = {f"a{read.SUFFIX}", f"b_c{read.SUFFIX}", f"sub-a{read.SUFFIX}"}
    assert {file.name for file in out.iterdir()} == files | {"tokens.json"}
    tokens = expected(codec, audio, "b c.flac")
    got = read.read(out / f"b_c{read.SUFFIX}")
    assert torch.equal(got.codes, tokens.codes) and got[1:] == tokens[1:]
    # The saved tokenizer is the same model as the run.
    assert run("decode", codec / "saved", out, "--out", wavs) == 0
    signal, rate = soundfile.read(wavs / "b_c.wav")
    assert (len(signal), rate) == (1333, 8000)
    audio_of = AudioTokenizer.from_run(codec / "run").decode(tokens.codes[None])[0]
    audio_of = audio_of[:1333].clamp(-1, 1)
    assert abs(audio_of - torch.from_numpy(signal)).max() < 1e-4


def test_kaldi_archives_decode_to_whole_frames(codec, audio, tmp_path):
    out, wavs = tmp_path / "tokens", tmp_path / "wavs"
    command = ["tokens", codec / "run", audio, "--out", out, "--format", "kaldi"]
    assert run(*command) == 0
    names = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
    lists = "token_lists/codec_token_list"
    assert names == {"codec.1.ark", "codec.1.scp", "tokens.json", lists}
    words = (out / lists).read_text().split()
    assert len(words) == 4 * 16 and words[17] == "<codec_layer1_code1>"
    assert run("decode", codec / "run", out, "--out", wavs) == 0
    assert len(soundfile.read(wavs / "b_c.wav")[0]) == 1333 // 80 * 80


@pytest.mark.parametrize("form", ["npz", "kaldi"])
def test_a_stopped_command_continues(codec, audio, tmp_path, monkeypatch, form):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    command = ["tokens", codec / "run", audio, "--format", form, "--out"]
    run(*command, whole)
    encoded = []
    encode = AudioTokenizer.tokens_of_file

    def stop_at_the_third(self, path, n_codebooks=None, beam=None):
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(path.name)
        return encode(self, path, n_codebooks, beam)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AudioTokenizer, "tokens_of_file", stop_at_the_third)
        run(*command, stopped)
    assert len(encoded) == 2 and not list(stopped.rglob("*.ark"))
    for folder in stopped.glob(".parts*"):
        # What a kill during the writing of a file leaves.
        (folder / ".b_c-x1y2.sbvq").touch()
    with monkeypatch.context() as patch:
        patch.setattr(
            AudioTokenizer,
            "tokens_of_file",
            lambda self, path, *more: (
                encoded.append(path.name) or encode(self, path, *more)
            ),
        )
        assert run(*command, stopped) == run(*command, stopped) == 0
    assert len(encoded) == 3
    for file in whole.rglob("*.[na][pr][zk]"):
        assert file.read_bytes() == (stopped / file.name).read_bytes()


def test_ranks_share_the_files(codec, audio, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    command = ["tokens", codec / "run", audio, "--out", tmp_path, "--format", "kaldi"]
    for rank in "10":
        monkeypatch.setenv("RANK", rank)
        assert run(*command) == 0
    keys = [
        [line.split()[0] for line in (tmp_path / f"codec.{n}.scp").open()]
        for n in (1, 2)
    ]
    assert keys == [["a", "sub-a"], ["b_c"]]


def test_a_bad_file_is_named_and_the_others_are_kept(codec, audio, tmp_path, capsys):
    shutil.copytree(audio, tmp_path / "audio")
    (tmp_path / "audio/empty.wav").touch()
    (tmp_path / "audio/noise.wav").write_bytes(b"no audio")
    out = tmp_path / "tokens"
    command = ["tokens", codec / "run", tmp_path / "audio", "--out", out]
    assert run(*command, "--format", "kaldi") == 1
    error = capsys.readouterr().err
    assert "empty.wav: empty file" in error and "noise.wav: not readable" in error
    assert "2 of 5 files have no tokens" in error
    assert not list(out.glob("codec.*")) and len(list(out.rglob("*.sbvq"))) == 3
    assert run("decode", codec / "run", out, "--out", tmp_path / "wavs") == 2
    assert "no file with .npz, .sbvq, .scp" in capsys.readouterr().err


def test_other_models_and_formats_are_refused(codec, audio, tmp_path, capsys):
    tokens = tmp_path / "tokens"
    command = ["tokens", codec / "run", audio, "--out", tokens]
    assert run(*command, "--n_codebooks", 5) == 2
    assert "n_codebooks must be in [1, 4]" in capsys.readouterr().err
    assert not tokens.exists()
    assert run(*command, "--n_codebooks", 2) == 0
    for more in (["--format", "packed", "--n_codebooks", 2], ["--n_codebooks", 3], []):
        assert run(*command, *more) == 2
    assert "has results with format 'npz'" in capsys.readouterr().err
    assert run("decode", codec / "run", tokens, "--out", tmp_path / "wavs") == 0
    assert run("decode", codec / "other", tokens, "--out", tmp_path / "other") == 2
    assert "tokens of another model" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert run("decode", codec / "other", tmp_path / "none", "--out", tmp_path) == 2
    shutil.copy(audio / "a.wav", audio.parent / "a.wav")
    assert (
        run("tokens", codec / "run", audio, audio.parent / "a.wav", "--out", "x") == 2
    )
    assert "have the same key 'a'" in capsys.readouterr().err
    assert run("tokens", tmp_path / "wavs", audio, "--out", tmp_path / "y") == 2
    assert "no run of a recipe" in capsys.readouterr().err


def test_only_codecs_decode(tmp_path, codec, audio, capsys):
    save_run(tmp_path / "run", "BEST-RQ/fsdd")
    assert run("tokens", tmp_path / "run", audio, "--out", tmp_path / "tokens") == 0
    decode = ["decode", tmp_path / "run", tmp_path / "tokens"]
    assert run(*decode, "--out", tmp_path / "wavs") == 2
    assert "no decoder" in capsys.readouterr().err
    assert not (tmp_path / "wavs").exists()
