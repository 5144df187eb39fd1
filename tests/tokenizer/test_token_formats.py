"""Every format of ``sbvq tokens``: exact, resumable, sharded, nothing half written."""

import errno
import gzip
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("safetensors")
soundfile = pytest.importorskip("soundfile")
for package in ("constriction", "lhotse", "pyarrow"):
    pytest.importorskip(package)

from sb_espnet_vq.cli.main import main  # noqa: E402
from sb_espnet_vq.errors import TokenFileError  # noqa: E402
from sb_espnet_vq.tokenizer import (  # noqa: E402
    AudioTokenizer,
    entropy_coding,
    packed_file,
    parquet_files,
    token_formats,
)

FORMATS = {
    "npz": [],
    "packed": [],
    "packed, entropy coded": ["--entropy_coding"],
    "kaldi": [],
    "lhotse": [],
    "parquet": [],
}
NAMES = ["a.wav", "b c.flac", "d.wav", "sub/a.wav", "sub/e.wav"]
every_format = pytest.mark.parametrize("form", FORMATS)


def config(**more):
    networks, sizes = "sb_espnet_vq.codec.networks", {"dim": 8, "channels": 4}
    codec = {"sample_rate": 8000, "dim": 8, "codebook_size": 300, "n_codebooks": 3}
    for name in ("encoder", "decoder"):
        options = sizes | {"ratios": [4, 5]}
        path = f"{networks}.Conv{name.title()}"
        codec[name] = {"class": path, "options": options}
    model = {"class": "sb_espnet_vq.codec.model.Codec", "options": codec | more}
    return {"format": 1, "kind": "codec", "options": {"codec": model}}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a folder with two saved tokenizers."""
    folder = tmp_path_factory.mktemp("models")
    for name, codebooks in (("codec", 3), ("other", 2)):
        torch.manual_seed(0)
        tokenizer = AudioTokenizer(config(n_codebooks=codebooks))
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """Return a folder of audio; one file has two channels and another sample rate."""
    folder = tmp_path_factory.mktemp("audio")
    (folder / "sub").mkdir()
    for number, name in enumerate(NAMES):
        shape = (1500, 2) if name == "d.wav" else (700 + 131 * number,)
        rate = 16000 if name == "d.wav" else 8000
        soundfile.write(folder / name, 0.3 * torch.randn(shape).numpy(), rate)
    return folder


@pytest.fixture
def tokens(models, audio, monkeypatch):
    """Return a function that runs ``sbvq tokens``; Parquet files hold two rows.

    Some of them are in one group, others in two.
    """
    monkeypatch.setattr(parquet_files, "UTTERANCES", 2)
    monkeypatch.setattr(parquet_files, "_CODES_IN_MEMORY", 110)

    def run(form, out="tokens", audio=audio):
        command = ["tokens", models / "codec", audio, "--out", out]
        command += ["--format", form.partition(",")[0], *FORMATS[form]]
        return main([str(word) for word in command])

    return run


def content(folder):
    """Return the files of a folder, hidden ones included."""
    files = [file for file in Path(folder).rglob("*") if not file.is_dir()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def read(folder):
    found = {}
    for file in sorted(Path(folder).rglob("*")):
        if file.name.endswith(token_formats.SUFFIXES) and not file.is_dir():
            found |= dict(token_formats.read(file, file.name.partition(".")[0]))
    return found


@every_format
def test_the_tokens_read_are_those_of_the_tokenizer(
    form, tokens, models, audio, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert tokens(form) == 0
    tokenizer = AudioTokenizer.from_pretrained(models / "codec")
    found = read("tokens")
    assert len(found) == len(NAMES) and not list(Path("tokens").glob(".*"))
    for name in NAMES:
        key = name.partition(".")[0].replace(" ", "_").replace("/", "-")
        expected = tokenizer.tokens_of_file(audio / name)
        codes, samples, source = found[key]
        # Kaldi archives leave out a last frame that is not full.
        frames = expected.samples // 20 if form == "kaldi" else len(expected.codes)
        assert torch.equal(codes, expected.codes[:frames])
        assert samples == (20 * frames if form == "kaldi" else expected.samples)
        assert source == expected.source


class Killed(BaseException):
    """A kill: nothing that is there gets removed."""


def fail_at(patch, last, error):
    """Let the rename after the first `last` ones fail."""
    replace, renamed = os.replace, []

    def fail(*paths):
        if len(renamed) == last:
            if isinstance(error, Killed):
                # `finally` does not run in a process that is killed.
                patch.setattr(Path, "unlink", lambda *_, **__: None)
            raise error
        renamed.append(paths)
        replace(*paths)

    patch.setattr(os, "replace", fail)


@every_format
@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "No space left")])
def test_a_run_that_fails_at_any_file_continues(
    form, error, tokens, tmp_path, monkeypatch, capsys
):
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    assert tokens(form) == 0
    whole = content("tokens")
    monkeypatch.chdir(tmp_path / "stopped")
    for last in range(30):
        with monkeypatch.context() as patch:
            fail_at(patch, last, error)
            try:
                status = tokens(form)
            except Killed:
                status = None
        for name, data in content("tokens").items():
            if not name.startswith("."):
                assert data == whole[name]
            elif not isinstance(error, Killed):
                assert name.endswith(".sbvq") and "/." not in name
        if status == 0:
            break
        if status is not None:
            assert status == 2
            assert "No space left: tokens cannot be written" in capsys.readouterr().err
    assert status == 0 and content("tokens") == whole


@every_format
def test_processes_share_the_files(form, tokens, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert tokens(form, "alone") == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "10":
        monkeypatch.setenv("RANK", rank)
        assert tokens(form, "shared") == 0
        count = {"0": 3, "1": 2}[rank]
        assert f"{count} files encoded to shared" in capsys.readouterr().out
    alone, shared = read("alone"), read("shared")
    assert alone.keys() == shared.keys()
    assert all(torch.equal(alone[key].codes, shared[key].codes) for key in alone)
    monkeypatch.setenv("WORLD_SIZE", "3")
    by_process = token_formats.FORMATS[form].BY_PROCESS
    assert tokens(form, "shared") == (2 if by_process else 0)
    assert ("has results with processes 2, not 3" in capsys.readouterr().err) == (
        by_process
    )


def test_nothing_of_another_division_is_left(tokens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with monkeypatch.context() as patch:
        # At the second file, which is another process's next time.
        fail_at(patch, 4, Killed())
        with pytest.raises(Killed):
            tokens("npz", "killed")
    assert list(Path("killed").glob(".parts.1/*.sbvq"))
    monkeypatch.setenv("WORLD_SIZE", "9")
    # In the other folder, a process without a file starts.
    for out, ranks in (("killed", range(9)), ("new", range(8, -1, -1))):
        for rank in ranks:
            monkeypatch.setenv("RANK", str(rank))
            assert tokens("npz", out) == 0
        assert not list(Path(out).glob(".parts*"))


def test_a_rewrite_that_is_killed_is_not_complete(tokens, audio, tmp_path, monkeypatch):
    form = "packed, entropy coded"
    monkeypatch.chdir(tmp_path)
    shutil.copytree(audio, "audio")
    assert tokens(form, audio="audio") == 0
    shutil.copy("audio/a.wav", "audio/0.wav")
    # Past the utterances, the distribution and the first file.
    with monkeypatch.context() as patch:
        fail_at(patch, 8, Killed())
        with pytest.raises(Killed):
            tokens(form, audio="audio")
    assert Path("tokens/0.sbvq").exists()
    assert tokens(form, audio="audio") == 0
    names = {packed_file.coded_size(f)[2] for f in Path("tokens").glob("*.sbvq")}
    assert len(names) == 1


def test_a_key_in_two_files_is_not_decoded_twice(
    tokens, models, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for part in ("train", "dev"):
        assert tokens("kaldi", f"all/{part}") == 0
    command = ["decode", str(models / "codec"), "all", "--out", "wavs"]
    assert main(command) == 2
    assert "the key 'a' occurs twice" in capsys.readouterr().err


def test_arrays_of_floats_are_refused(tokens, tmp_path, monkeypatch):
    import numpy

    monkeypatch.chdir(tmp_path)
    tokens("lhotse")
    numpy.save("tokens/codes/a.npy", numpy.zeros((3, 3)))
    with pytest.raises(TokenFileError, match="codes must be integers, got float64"):
        read("tokens")


@every_format
def test_audio_that_is_added_gets_tokens(form, tokens, audio, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(audio, "audio")
    assert tokens(form, audio="audio") == 0
    before = read("tokens")
    shutil.copy("audio/a.wav", "audio/0.wav")
    assert tokens(form, audio="audio") == 0
    after = read("tokens")
    assert after.keys() == before.keys() | {"0"}
    assert torch.equal(after["0"].codes, after["a"].codes)
    assert all(torch.equal(after[key].codes, before[key].codes) for key in before)


def test_parquet_files_of_audio_that_is_missing_are_refused(
    tokens, audio, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(audio, "audio")
    assert tokens("parquet", audio="audio") == 0
    shutil.rmtree("audio/sub")
    assert tokens("parquet", audio="audio") == 2
    assert "that are not among the given audio files" in capsys.readouterr().err


@every_format
def test_what_is_not_as_written_is_refused(form, tokens, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokens(form)
    for file in sorted(Path("tokens").rglob("*")):
        if file.is_dir() or file.suffix in ("", ".json"):
            continue
        data = file.read_bytes()
        for changed in (b"", data[:-1], data[: len(data) // 2], b"other" + data[5:]):
            file.write_bytes(changed)
            if file.suffix != ".scp":
                entropy_coding._load.cache_clear()
                with pytest.raises(TokenFileError):
                    read("tokens")
        file.write_bytes(data)
    command = ["decode", str(models / "other"), "tokens", "--out", "wavs"]
    assert main(command) == 2 and not Path("wavs").exists()


def test_manifests_that_name_other_storage_are_refused(tokens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokens("lhotse")
    file = Path("tokens/cuts.1.jsonl.gz")
    text = gzip.decompress(file.read_bytes()).replace(b"numpy_files", b"kaldiio")
    file.write_bytes(gzip.compress(text))
    with pytest.raises(TokenFileError, match="storage kaldiio, not numpy_files"):
        read("tokens")


def test_keys_that_are_paths_are_not_decoded(
    tokens, models, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    tokens("kaldi")
    scp = Path("tokens/codec.1.scp")
    scp.write_text(scp.read_text().replace("a ", "../a ", 1))
    command = ["decode", str(models / "codec"), "tokens", "--out", "wavs/here"]
    assert main(command) == 2 and not Path("wavs").exists()
    assert "'../a' is not the name of a file" in capsys.readouterr().err


@every_format
def test_a_bad_file_keeps_the_others(
    form, tokens, audio, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    bad = audio / "sub/e.wav"
    good = bad.read_bytes()
    bad.write_bytes(b"")
    try:
        assert tokens(form) == 1
        assert "sub/e.wav: empty file" in capsys.readouterr().err
    finally:
        bad.write_bytes(good)
    count = len(content("tokens"))
    assert tokens(form) == 0
    assert count >= 3 and len(read("tokens")) == len(NAMES)


def test_entropy_coding_prints_its_rate_and_needs_packed_files(
    tokens, models, audio, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert tokens("packed, entropy coded") == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "kbit/s" in x]
    assert line.endswith("10.800 kbit/s at fixed width")
    files = [Path(name) for name in content("tokens")]
    shared = sum(file.stat().st_size for file in Path("tokens").glob("*.gz"))
    coded = shared + sum(
        packed_file.coded_size(Path("tokens", file))[0]
        for file in files
        if file.suffix == ".sbvq"
    )
    seconds = sum(each.samples for each in read("tokens").values()) / 8000
    assert float(line.split()[1]) == round(coded * 8 / seconds / 1000, 3)
    (shared,) = Path("tokens").glob("distribution-*.json.gz")
    counts = json.loads(gzip.decompress(shared.read_bytes()))
    counts["counts"][0][0] += 1
    shared.write_bytes(gzip.compress(json.dumps(counts).encode()))
    entropy_coding._load.cache_clear()
    with pytest.raises(TokenFileError, match="json.gz: altered"):
        read("tokens")
    shared.unlink()
    with pytest.raises(TokenFileError, match="coded with this distribution"):
        read("tokens")
    command = ["tokens", models / "codec", audio, "--out", "x", "--entropy_coding"]
    assert main([str(word) for word in command]) == 2
    assert "needs --format packed, got --format npz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "module"),
    [
        ("packed, entropy coded", "constriction"),
        ("lhotse", "lhotse"),
        ("parquet", "pyarrow.parquet"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    form, module, tokens, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    assert tokens(form) == 2 and not Path("tokens").exists()
    error = capsys.readouterr().err
    assert f"needs {module.partition('.')[0]}, which is not installed" in error
    assert "sb_espnet_vq[formats]" in error


def test_beam_is_passed_on_and_recorded(models, audio, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["tokens", str(models / "codec"), str(audio), "--out", "tokens"]
    assert main([*command, "--beam", "0"]) == 2 and not Path("tokens").exists()
    assert main([*command, "--beam", "4"]) == 0
    tokenizer = AudioTokenizer.from_pretrained(models / "codec")
    codes = read("tokens")["a"].codes
    assert torch.equal(codes, tokenizer.encode_file(audio / "a.wav", beam=4))
    assert not torch.equal(codes, tokenizer.encode_file(audio / "a.wav"))
    assert main(command) == 2
    assert "has results with beam 4, not None" in capsys.readouterr().err
