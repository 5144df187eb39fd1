"""Download of the default corpus; only the last test needs a network."""

import dataclasses
import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import numpy
import pytest

from sb_espnet_vq.corpora import fetch_fsdd, fsdd, read_manifest, source_archive
from sb_espnet_vq.errors import CorpusError

pytest.importorskip("soundfile")


def archive_of(arrays):
    content, bundle = io.BytesIO(), io.BytesIO()
    numpy.savez(content, **arrays)
    with tarfile.open(fileobj=bundle, mode="w:gz") as tar:
        member = tarfile.TarInfo(fsdd.MEMBER)
        member.size = len(content.getvalue())
        tar.addfile(member, io.BytesIO(content.getvalue()))
    return bundle.getvalue()


@pytest.fixture
def registry(monkeypatch):
    """A package index with a corpus of three recordings; returns its settings."""
    arrays = {
        "sequences": numpy.linspace(-0.5, 0.5, 900, dtype="float32"),
        "lengths": numpy.array([200, 300, 400]),
        "labels": numpy.array([7, 0, 7]),
    }
    settings = {"archive": archive_of(arrays), "status": 0, "output": "", "calls": 0}
    expected = hashlib.sha256(settings["archive"]).hexdigest()
    archive = dataclasses.replace(fsdd.ARCHIVE, sha256=expected)

    def run(command, **_):
        settings["calls"] += 1
        if settings["status"] == 0:
            folder = Path(command[command.index("-d") + 1])
            (folder / archive.file).write_bytes(settings["archive"])
        return subprocess.CompletedProcess(
            command, settings["status"], "", settings["output"]
        )

    monkeypatch.setattr(source_archive.subprocess, "run", run)
    monkeypatch.setattr(fsdd, "ARCHIVE", archive)
    monkeypatch.setattr(fsdd, "UTTERANCES", 3)
    return settings


def test_the_corpus_is_downloaded_once_and_then_reused(tmp_path, registry):
    manifest = fetch_fsdd(tmp_path, sample_rate=16000)
    utterances = read_manifest(manifest)
    assert [item.label for item in utterances] == ["7", "0", "7"]
    assert [item.info.sample_rate for item in utterances] == [16000] * 3
    assert [item.info.duration for item in utterances] == [0.025, 0.0375, 0.05]
    assert "CC BY-SA 4.0" in (manifest.parent / "LICENCE.txt").read_text()
    assert fetch_fsdd(tmp_path) == manifest
    assert registry["calls"] == 1


def test_an_incomplete_corpus_is_downloaded_again(tmp_path, registry):
    manifest = fetch_fsdd(tmp_path)
    utterances = read_manifest(manifest)
    utterances[1].wav.unlink()
    assert read_manifest(fetch_fsdd(tmp_path)) == utterances
    assert registry["calls"] == 2


def left_behind(folder):
    return list(folder.iterdir())


def test_an_archive_with_another_hash_is_refused(tmp_path, registry):
    registry["archive"] += b"x"
    with pytest.raises(CorpusError, match="SHA-256 is .*, expected .* not used"):
        fetch_fsdd(tmp_path)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("ERROR: Could not find a version", "Check the network"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES",
            "not have the expected SHA-256",
        ),
        ("python: No module named pip", "does not have"),
    ],
)
def test_an_error_of_pip_is_explained_and_quoted(tmp_path, registry, output, reason):
    registry.update(status=1, output=output)
    with pytest.raises(CorpusError) as error:
        fetch_fsdd(tmp_path)
    assert reason in str(error.value)
    assert output in str(error.value)
    assert "--data_folder" in str(error.value)
    assert left_behind(tmp_path) == []


def test_an_interrupted_extraction_leaves_no_corpus(tmp_path, registry, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fsdd, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_fsdd(tmp_path)
    assert left_behind(tmp_path) == []


def test_a_folder_that_is_not_writable_is_named(tmp_path, registry):
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="--cache_folder"):
        fetch_fsdd(tmp_path / "file")


@pytest.mark.network
def test_the_downloaded_corpus_is_complete(tmp_path):
    utterances = read_manifest(fetch_fsdd(tmp_path))
    assert len(utterances) == 3000
    minutes = sum(item.info.duration for item in utterances) / 60
    assert minutes == pytest.approx(21.87, abs=0.01)
    assert {item.label for item in utterances} == set("0123456789")
