"""Splits are reproducible and share no speakers."""

import logging
import random
from pathlib import Path

import numpy
import pytest

from sb_espnet_vq.corpora import (
    Utterance,
    corpus_root,
    prepare_corpus,
    read_manifest,
    split_folds,
    split_utterances,
)
from sb_espnet_vq.corpora.audio import AudioInfo
from sb_espnet_vq.errors import CorpusError

soundfile = pytest.importorskip("soundfile")
INFO = AudioInfo(1.0, 16000, 1)


def corpus(count, speakers=None):
    return [
        Utterance(f"u{n:03d}", Path(f"u{n}.wav"), INFO, speakers and speakers(n))
        for n in range(count)
    ]


def ids(parts):
    return {name: [item.id for item in part] for name, part in parts.items()}


@pytest.mark.parametrize("count", [3, 4, 10, 101])
@pytest.mark.parametrize("held_out", [(0.1, 0.1), (0.05, 0.15), (0.45, 0.45)])
def test_every_utterance_is_in_exactly_one_part(count, held_out):
    parts = split_utterances(corpus(count), held_out, seed=3)
    everything = [item for part in parts.values() for item in part]
    assert sorted(item.id for item in everything) == [u.id for u in corpus(count)]
    assert all(parts.values())
    for name, share in zip(("valid", "test"), held_out, strict=True):
        assert abs(len(parts[name]) - share * count) <= 1


def test_a_split_depends_on_the_seed_but_not_on_the_order():
    items = corpus(50)
    shuffled = random.Random(1).sample(items, len(items))
    assert ids(split_utterances(items)) == ids(split_utterances(shuffled))
    assert ids(split_utterances(items)) != ids(split_utterances(items, seed=1))


def test_known_speakers_are_never_in_two_parts():
    # Very unequal speakers: the first has half of all utterances.
    parts = split_utterances(corpus(200, lambda n: f"s{0 if n % 2 else n % 16}"))
    speakers = [{item.speaker for item in part} for part in parts.values()]
    assert all(speakers)
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 8


def test_a_speaker_too_large_for_a_part_is_skipped():
    # In any order, the speaker with 90 of 100 utterances is in train.
    for seed in range(10):
        items = corpus(100, lambda n: f"s{0 if n >= 10 else n + 1}")
        parts = split_utterances(items, (0.05, 0.05), seed=seed)
        assert [len(part) for part in parts.values()] == [90, 5, 5]


def test_two_speakers_or_an_unknown_one_give_a_split_by_utterance():
    parts = split_utterances(corpus(100, lambda n: f"s{n % 2}"))
    assert [len(part) for part in parts.values()] == [80, 10, 10]
    parts = split_utterances(corpus(100, lambda n: f"s{n % 9}" if n else None))
    assert [len(part) for part in parts.values()] == [80, 10, 10]


def test_a_split_without_enough_utterances_is_refused():
    with pytest.raises(CorpusError, match="at least 3 utterances.*got 2"):
        split_utterances(corpus(2))
    with pytest.raises(CorpusError, match="above 0 and together below 1"):
        split_utterances(corpus(9), (0.5, 0.5))


def write_wavs(folder, count, rate=16000, channels=1):
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        samples = numpy.full((800, channels), 0.1)
        soundfile.write(folder / f"u{n}.wav", samples, rate)


def test_a_folder_is_prepared_and_conversions_are_reported_once(tmp_path, caplog):
    write_wavs(tmp_path / "audio", 10, rate=8000, channels=2)
    (tmp_path / "audio/bad.wav").touch()
    caplog.set_level(logging.INFO)
    prepare_corpus(tmp_path / "out", data_folder=tmp_path / "audio")
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert [line.split(":")[-1].strip() for line in warnings[1:3]] == [
        "resampled to 16000 Hz when read",
        "averaged to mono when read",
    ]
    assert "1 of 11 files cannot be used" in warnings[0]
    assert "bad.wav: empty file" in warnings[0]
    # One of ten files is held out for each part.
    assert [line.split()[0] for line in warnings[3:]] == ["valid", "test"]
    assert all("has 1 utterances, too few for" in line for line in warnings[3:])
    root = corpus_root(data_folder=tmp_path / "audio")
    read = {
        p: read_manifest(tmp_path / f"out/{p}.csv", root) for p in ("train", "test")
    }
    assert (len(read["train"]), len(read["test"])) == (8, 1)


def test_a_folder_already_split_keeps_its_parts(tmp_path):
    for name, count in (("tr", 4), ("dev", 1), ("te", 2)):
        write_wavs(tmp_path / "audio" / name, count)
    parts = {"train": ["tr"], "valid": ["dev"], "test": ["te"]}
    prepare_corpus(tmp_path, data_folder=tmp_path / "audio", subfolders=parts)
    rows = read_manifest(tmp_path / "train.csv", tmp_path / "audio")
    assert [item.id for item in rows] == [f"tr/u{n}" for n in range(4)]
    parts["valid"] = ["missing"]
    with pytest.raises(CorpusError, match="subfolders missing are missing"):
        prepare_corpus(tmp_path, data_folder=tmp_path / "audio", subfolders=parts)


def folded(count, folds=4):
    return [
        item._replace(fold=str(n % folds + 1)) for n, item in enumerate(corpus(count))
    ]


def test_folds_are_kept_and_valid_is_a_fraction_of_train():
    items = folded(80)
    parts = split_folds(items, {"train": [1, 2, 3], "test": ["4"]}, 0.2)
    assert [len(part) for part in parts.values()] == [48, 12, 20]
    assert {item.fold for item in parts["test"]} == {"4"}
    seen = parts["train"] + parts["valid"]
    assert sorted(seen) == sorted(item for item in items if item.fold != "4")
    again = split_folds(items[::-1], {"train": [3, 2, 1], "test": [4]}, 0.2)
    assert ids(again) == ids(parts)
    # Other folds are ignored.
    fewer = split_folds(items, {"train": [1], "test": [4]}, 0.2)
    assert [len(part) for part in fewer.values()] == [16, 4, 20]


def test_clips_of_one_recording_stay_together():
    # ESC-50's names: fold, recording, take.
    items = [
        item._replace(id=f"{n % 3 + 1}-{n // 5}-{'ABCDE'[n % 5]}", fold=str(n % 3 + 1))
        for n, item in enumerate(corpus(150))
    ]
    everything = {"train": [1, 2], "test": [3]}
    for seed in range(5):
        for parts in (
            split_folds(items, everything, 0.3, seed),
            split_utterances(items, (0.2, 0.2), seed),
        ):
            train, valid = (
                {item.id.split("-")[1] for item in parts[name]}
                for name in ("train", "valid")
            )
            assert train and valid and not train & valid


def test_speakers_stay_together_within_folds():
    items = [
        item._replace(fold=str(n % 3), speaker=f"s{n // 10}")
        for n, item in enumerate(corpus(90))
    ]
    parts = split_folds(items, {"train": [0, 1], "test": [2]}, 0.3)
    train, valid = ({u.speaker for u in parts[name]} for name in ("train", "valid"))
    assert train and valid and not train & valid


@pytest.mark.parametrize(
    ("folds", "reason"),
    [
        ({"train": [1, 7], "test": [4]}, "in fold 7; the corpus has 1, 2, 3, 4"),
        ({"train": [1, 4], "test": [4]}, "fold 4 is both in train and in test"),
        ({"train": [1], "test": []}, "none given"),
    ],
)
def test_unusable_folds_are_refused(folds, reason):
    with pytest.raises(CorpusError, match=reason):
        split_folds(folded(40), folds)


def test_a_corpus_without_folds_or_with_too_few_utterances_is_refused():
    folds = {"train": [1], "test": [2]}
    with pytest.raises(CorpusError, match="the corpus has no column fold"):
        split_folds(corpus(20), folds)
    with pytest.raises(CorpusError, match="contain only one utterance or recording"):
        split_folds(folded(5), folds | {"train": [2], "test": [1]})
    with pytest.raises(CorpusError, match="above 0 and below 1, got 1"):
        split_folds(folded(5), folds, 1)


def test_a_manifest_with_folds_is_split_by_folds(tmp_path):
    write_wavs(tmp_path, 12)
    rows = [f"u{n}.wav,{n % 3}" for n in range(12)]
    (tmp_path / "manifest.csv").write_text("\n".join(["wav,fold", *rows]) + "\n")
    folds = {"train": [0, 2], "test": [1]}
    options = {"manifest": tmp_path / "manifest.csv", "held_out": (0.25, 0.5)}
    prepare_corpus(tmp_path / "out", folds=folds, **options)
    read = {
        part: [u.id for u in read_manifest(tmp_path / f"out/{part}.csv", tmp_path)]
        for part in ("train", "valid", "test")
    }
    assert read["test"] == ["u1", "u10", "u4", "u7"]
    assert (len(read["train"]), len(read["valid"])) == (6, 2)


ESC50_HEADER = "filename,fold,target,category,esc10,src_file,take"


def write_esc50(folder, header=ESC50_HEADER, count=12):
    write_wavs(folder / "audio", count)
    (folder / "meta").mkdir()
    lines = [header]
    for n in range(count):
        name = f"{n % 3 + 1}-{100 + n}-A-{n % 2}.wav"
        (folder / f"audio/u{n}.wav").rename(folder / "audio" / name)
        lines.append(f"{name},{n % 3 + 1},{n % 2},{'dog cow'.split()[n % 2]},")
        lines[-1] += f"{n % 2 == 0},{100 + n},A"
    (folder / "meta/esc50.csv").write_text("\n".join(lines) + "\n")


def test_esc50_is_recognized_by_its_list_of_clips(tmp_path):
    write_esc50(tmp_path / "ESC-50-master")
    folds = {"train": [1, 2], "test": [3]}
    options = {"data_folder": tmp_path / "ESC-50-master", "folds": folds}
    prepare_corpus(tmp_path / "all", **options)
    prepare_corpus(tmp_path / "ten", esc10_only=True, **options)
    rows = {
        name: read_manifest(tmp_path / name / "test.csv", options["data_folder"])
        for name in ("all", "ten")
    }
    assert [u.id for u in rows["all"]] == [
        f"3-{n}-A-{n % 2}" for n in (102, 105, 108, 111)
    ]
    assert {u.label for u in rows["all"]} == {"dog", "cow"}
    assert [u.id for u in rows["ten"]] == ["3-102-A-0", "3-108-A-0"]


def test_an_incomplete_esc50_is_refused(tmp_path):
    write_esc50(tmp_path / "a", header=ESC50_HEADER.replace("esc10", "other"))
    with pytest.raises(CorpusError, match="esc50.csv: it has no column esc10"):
        prepare_corpus(tmp_path / "out", data_folder=tmp_path / "a")
    write_esc50(tmp_path / "b")
    (tmp_path / "b/audio/2-101-A-1.wav").unlink()
    with pytest.raises(CorpusError, match="2-101-A-1.wav: no such file"):
        prepare_corpus(tmp_path / "out", data_folder=tmp_path / "b")
    assert not (tmp_path / "out").exists()
