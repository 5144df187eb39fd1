"""Lists of utterances from folders and manifests, and errors in them."""

import numpy
import pytest

from sb_espnet_vq.corpora import (
    copy_manifest,
    read_manifest,
    read_rows,
    scan_folder,
    write_manifest,
)
from sb_espnet_vq.errors import CorpusError

soundfile = pytest.importorskip("soundfile")


def write_wav(path, samples=1600, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, numpy.full(samples, 0.1), rate)


def test_a_folder_is_searched_recursively_and_sorted(tmp_path):
    for name in ("b.wav", "deep/er/a.flac", "deep/c.WAV"):
        write_wav(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not audio")
    (tmp_path / "._b.wav").write_text("left by another system")
    utterances, problems = scan_folder(tmp_path)
    assert [item.id for item in utterances] == ["b", "deep/c", "deep/er/a"]
    assert problems == []


def test_files_that_differ_in_extension_have_different_ids(tmp_path):
    write_wav(tmp_path / "a.wav")
    write_wav(tmp_path / "a.flac")
    utterances, _ = scan_folder(tmp_path)
    assert [item.id for item in utterances] == ["a.flac", "a.wav"]


def test_broken_files_in_a_folder_are_skipped_and_reported(tmp_path):
    write_wav(tmp_path / "good.wav")
    (tmp_path / "bad.wav").touch()
    utterances, problems = scan_folder(tmp_path)
    assert [item.id for item in utterances] == ["good"]
    assert len(problems) == 1 and "bad.wav" in problems[0]


def test_transcripts_of_librispeech_belong_to_the_audio_beside_them(tmp_path):
    for name in ("1/a-0.flac", "1/a-1.flac", "2/a-0.flac"):
        write_wav(tmp_path / name)
    (tmp_path / "1" / "a.trans.txt").write_text("a-0 ONE TWO\na-9 OF NOTHING\n")
    utterances, _ = scan_folder(tmp_path)
    texts = {item.id: item.transcript for item in utterances}
    assert texts == {"1/a-0": "ONE TWO", "1/a-1": None, "2/a-0": None}
    (tmp_path / "2" / "a.trans.txt").write_bytes(b"a-0 \xff\xfe")
    with pytest.raises(CorpusError, match=r"a\.trans\.txt: not readable as text"):
        scan_folder(tmp_path)


def test_a_folder_without_usable_audio_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match="no such folder"):
        scan_folder(tmp_path / "missing")
    with pytest.raises(CorpusError, match="no audio in this folder"):
        scan_folder(tmp_path)
    (tmp_path / "bad.wav").touch()
    with pytest.raises(CorpusError, match=r"none of its 1 audio files.*bad\.wav"):
        scan_folder(tmp_path)


def test_a_manifest_round_trips(tmp_path):
    write_wav(tmp_path / "data/a.wav")
    write_wav(tmp_path / "elsewhere/b, with comma.wav", 800)
    utterances, _ = scan_folder(tmp_path)
    known = {"speaker": "s1", "label": "seven", "transcript": "seven, 7"}
    utterances[0] = utterances[0]._replace(**known)
    write_manifest(tmp_path / "m.csv", utterances, tmp_path / "data")
    text = (tmp_path / "m.csv").read_text()
    assert "$data_root/a.wav" in text
    assert read_manifest(tmp_path / "m.csv", tmp_path / "data") == utterances


def test_a_manifest_needs_only_a_column_wav(tmp_path):
    write_wav(tmp_path / "sub/a.wav")
    (tmp_path / "m.csv").write_text("wav,speaker,label,other\nsub/a.wav,ann,,x\n")
    (item,) = read_manifest(tmp_path / "m.csv")
    assert (item.id, item.speaker, item.label) == ("a", "ann", None)
    assert item.info.duration == 0.1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("ID,path\na,b.wav\n", "needs a column wav.*has ID, path"),
        ("wav\n", "has no rows"),
        ("ID,wav\na,\n", "line 2: column wav is empty"),
        ("ID,wav\na,a.wav\na,a.wav\n", "line 3: ID a is already on line 2"),
        ("ID,wav\na,gone.wav\n", r"line 2.*gone\.wav: no such file"),
        ("ID,wav\na,bad.wav\n", r"line 2.*bad\.wav: empty file"),
    ],
)
def test_errors_in_a_manifest_name_line_and_reason(tmp_path, content, reason):
    write_wav(tmp_path / "a.wav")
    (tmp_path / "bad.wav").touch()
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(CorpusError, match=rf"m\.csv.*{reason}"):
        read_manifest(tmp_path / "m.csv")


def test_a_missing_or_binary_manifest_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match="no such manifest"):
        read_manifest(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(CorpusError, match="not a CSV file"):
        read_manifest(tmp_path / "m.csv")


def test_a_copy_has_absolute_paths_and_all_columns(tmp_path):
    (tmp_path / "m.csv").write_text(
        'wav,label,ID\n$data_root/a.wav,"x, y",a\nb.wav,,b\n/c/c.wav,z,c\n'
    )
    copy_manifest(tmp_path / "m.csv", tmp_path / "copy.csv", tmp_path / "data")
    rows = read_rows(tmp_path / "copy.csv")
    wavs = [str(tmp_path / "data" / "a.wav"), str(tmp_path / "data" / "b.wav")]
    assert [row["wav"] for row in rows] == [*wavs, "/c/c.wav"]
    assert [row["label"] for row in rows] == ["x, y", "", "z"]
    assert [row["ID"] for row in rows] == ["a", "b", "c"]
