"""Unusable recordings are reported and skipped; file names may be unusual."""

import logging
import os
import re
from pathlib import Path

import numpy
import pytest

from sb_espnet_vq.corpora import prepare_corpus, read_manifest
from sb_espnet_vq.corpora.audio import inspect_audio, read_audio
from sb_espnet_vq.corpora.usable import why_unusable
from sb_espnet_vq.errors import CorpusError

soundfile = pytest.importorskip("soundfile")

RATE = 16000
PARTS = ("train", "valid", "test")
NAMES = (
    *("a$b.wav", "$data_root.wav", "x$data_root$y z.wav", "a,b.wav", "-dash.wav"),
    *("q\"uo'te.wav", "new\nline.wav", " space first.wav", "ünï ñ 語.wav", "#%s{}.wav"),
)


def tone(samples, seed=0):
    draws = numpy.random.default_rng(seed)
    wave = numpy.sin(numpy.arange(samples) * draws.uniform(0.05, 0.6))
    return 0.3 * wave + 0.02 * draws.standard_normal(samples)


def write(path, wave=None, rate=RATE, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    # libsndfile infers the format from the name, which may not be valid text.
    wave = tone(RATE // 2, len(path.name)) if wave is None else wave
    soundfile.write(os.fsencode(path), wave, rate, subtype, format="WAV")
    return path


def poisoned(value, at):
    wave = tone(200_000)
    wave[at] = value
    return wave


UNUSABLE = {
    "NaN": (poisoned(numpy.nan, 150_000), RATE, "FLOAT", "NaN or infinite"),
    "first": (poisoned(numpy.nan, 0), RATE, "DOUBLE", "NaN or infinite"),
    "infinite": (poisoned(-numpy.inf, -1), RATE, "DOUBLE", "NaN or infinite"),
    "beyond float32": (poisoned(1e300, 9), RATE, "DOUBLE", "NaN or infinite"),
    "huge": (1e30 * tone(4000), RATE, "FLOAT", "samples of .*e[+]29, but full scale"),
    "silent": (numpy.zeros(9000), RATE, "PCM_16", "silence"),
    "silent float": (numpy.zeros(9000), RATE, "FLOAT", "silence"),
    "cancels out": (numpy.outer(tone(4000), [1, -1]), RATE, "FLOAT", "silence"),
    "one sample": (numpy.ones(1), RATE, "PCM_16", "0.0625 ms of audio, at least 10"),
    "9 ms": (tone(144), RATE, "PCM_16", "9 ms of audio"),
    "1 Hz": (tone(4000), 1, "PCM_16", "a sample rate of 1 Hz"),
    "2 GHz": (tone(4000), 2_000_000_000, "PCM_16", "a sample rate of 2000000000 Hz"),
    "44101 Hz": (tone(4000), 44101, "PCM_16", "resampling from 44101 to"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_recordings_have_a_reason(kind, tmp_path):
    wave, rate, subtype, reason = UNUSABLE[kind]
    path = write(tmp_path / "a.wav", wave, rate, subtype)
    got = why_unusable(path, inspect_audio(path), RATE)
    assert re.search(reason, got)


@pytest.mark.parametrize(
    ("wave", "rate", "subtype"),
    [
        (numpy.append(numpy.zeros(150_000), 0.5), RATE, "PCM_16"),
        (numpy.append(numpy.zeros(150_000), 0.5), RATE, "FLOAT"),
        # Integer scale in a float file.
        (32768 * tone(4000), RATE, "FLOAT"),
        (numpy.full(400, 0.1), RATE, "PCM_16"),
        (tone(160), RATE, "PCM_16"),
        (tone(4000), 44100, "PCM_24"),
        (tone(4000), 192_000, "DOUBLE"),
    ],
)
def test_usable_recordings_are_kept(wave, rate, subtype, tmp_path):
    path = write(tmp_path / "a.wav", wave, rate, subtype)
    assert why_unusable(path, inspect_audio(path), RATE) is None


def bad_folder(folder):
    """Usable files with unusual names, and one file of each unusable kind."""
    for name in NAMES:
        write(folder / name)
    for kind, (wave, rate, subtype, _) in UNUSABLE.items():
        write(folder / f"bad {kind}.wav", wave, rate, subtype)
    (folder / "bad empty.wav").touch()
    (folder / "bad text.wav").write_text("no audio")
    (folder / "bad other.M4A").write_text("not read")
    cut = (folder / NAMES[0]).read_bytes()
    (folder / "bad cut.wav").write_bytes(cut[:30])
    (folder / "bad loop.wav").symlink_to("bad loop.wav")
    (folder / "bad gone.wav").symlink_to("nowhere.wav")
    os.mkfifo(folder / "bad pipe.wav")
    (folder / "folder.wav").symlink_to(folder.absolute())
    return len(UNUSABLE) + 7


def test_unusable_files_in_a_folder_are_skipped_and_listed(tmp_path, caplog):
    folder, out = tmp_path / "in", tmp_path / "out"
    bad = bad_folder(folder)
    caplog.set_level(logging.INFO)
    prepare_corpus(out, data_folder=folder)
    lines = (out / "left_out.txt").read_text().splitlines()
    assert len(lines) == bad and all("/bad " in line for line in lines)
    (summary,) = (
        r.getMessage() for r in caplog.records if "left out" in r.getMessage()
    )
    assert summary.startswith(f"{bad} of {bad + len(NAMES)} files cannot be used")
    assert lines[0] in summary and f"all are listed in {out}" in summary
    read = sum((read_manifest(out / f"{p}.csv", folder) for p in PARTS), [])
    assert sorted(u.wav.name for u in read) == sorted(NAMES)
    # The list is rewritten at each start.
    for path in folder.glob("bad *"):
        path.unlink()
    prepare_corpus(out, data_folder=folder)
    assert not (out / "left_out.txt").exists()


def test_a_file_whose_name_is_not_utf_8_is_skipped(tmp_path):
    folder = tmp_path / "in"
    for n in range(3):
        write(folder / f"{n}.wav")
    try:
        write(Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.wav")))
    except OSError:
        pytest.skip("a file system that takes UTF-8 alone")
    prepare_corpus(tmp_path / "out", data_folder=folder)
    (line,) = (tmp_path / "out/left_out.txt").read_text().splitlines()
    assert line.endswith("the name is not UTF-8, and cannot be listed in a manifest")
    assert r"bad\udcff.wav" in line


def test_unusable_files_in_manifests_and_parts_are_skipped(tmp_path, caplog):
    folder = tmp_path / "in"
    for part in PARTS:
        for n in range(3):
            write(folder / part / f"{n}.wav")
    nan = UNUSABLE["NaN"][0]
    write(folder / "train/nan.wav", nan, RATE, "FLOAT")
    subfolders = {part: [part] for part in PARTS}
    prepare_corpus(tmp_path / "out", data_folder=folder, subfolders=subfolders)
    assert "1 of 10 files cannot be used" in caplog.text
    assert len(read_manifest(tmp_path / "out/train.csv", folder)) == 3
    # IDs are file names.
    for part in ("valid", "test"):
        for path in (folder / part).glob("*.wav"):
            path.rename(path.with_stem(f"{part}{path.stem}"))
    listed = sorted(folder.rglob("*.wav"))
    (tmp_path / "m.csv").write_text("wav\n" + "\n".join(map(str, listed)))
    prepare_corpus(tmp_path / "out", manifest=tmp_path / "m.csv", data_folder=folder)
    (line,) = (tmp_path / "out/left_out.txt").read_text().splitlines()
    assert line.startswith(f"{folder}/train/nan.wav: ")


def test_a_corpus_or_part_without_usable_files_is_refused(tmp_path):
    folder = tmp_path / "in"
    for part in PARTS:
        write(folder / part / "a.wav")
    write(folder / "valid/a.wav", numpy.zeros(9000))
    subfolders = {part: [part] for part in PARTS}
    with pytest.raises(CorpusError, match=r"\(valid\) can be used; .*a.wav: silence"):
        prepare_corpus(tmp_path / "out", data_folder=folder, subfolders=subfolders)
    with pytest.raises(CorpusError, match="none of 1 files .* can be used"):
        prepare_corpus(tmp_path / "out", data_folder=folder / "valid")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.m4a").touch()
    with pytest.raises(CorpusError, match=r"no audio in .*a\.m4a: .* convert it"):
        prepare_corpus(tmp_path / "out", data_folder=tmp_path / "other")


def test_too_few_validation_utterances_cause_a_warning(tmp_path, caplog):
    for n in range(40):
        write(tmp_path / f"in/{n}.wav")
    prepare_corpus(tmp_path / "a", data_folder=tmp_path / "in", held_out=(0.02, 0.3))
    assert "valid has 1 utterances, too few for reliable metrics: they" in caplog.text
    assert "test has" not in caplog.text
    caplog.clear()
    prepare_corpus(tmp_path / "b", data_folder=tmp_path / "in", held_out=(0.2, 0.2))
    assert "too few" not in caplog.text


def test_recipes_read_file_names_with_special_characters(tmp_path):
    """SpeechBrain's own reader treats every $ as a variable."""
    pytest.importorskip("speechbrain")
    from sb_espnet_vq.training.data import prepare, read_datasets

    for name in NAMES:
        write(tmp_path / "in" / name)
    hparams = {
        "output_folder": str(tmp_path / "out"),
        "data_folder": str(tmp_path / "in"),
        **dict.fromkeys(("manifest", "cache_folder")),
        "sample_rate": RATE,
        "held_out": [0.2, 0.2],
        "seed": 0,
        "avoid_if_shorter_than": 0.1,
        "avoid_if_longer_than": 9.0,
    }
    prepare(hparams)
    datasets = read_datasets(hparams)
    items = [item for part in PARTS for item in datasets[part]]
    assert {item["id"] + ".wav" for item in items} == set(NAMES)
    for item in items:
        same = read_audio(tmp_path / "in" / f"{item['id']}.wav", RATE)
        assert (item["sig"] == same).all()
