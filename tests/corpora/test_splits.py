"""Splits are the same everywhere, and keep speakers apart."""

import logging
import random
from pathlib import Path

import numpy
import pytest

from sb_espnet_vq.corpora import (
    CorpusError,
    Utterance,
    corpus_root,
    prepare_corpus,
    read_manifest,
    split_utterances,
)
from sb_espnet_vq.corpora.audio import AudioInfo

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


def test_the_order_given_does_not_matter_but_the_seed_does():
    items = corpus(50)
    shuffled = random.Random(1).sample(items, len(items))
    assert ids(split_utterances(items)) == ids(split_utterances(shuffled))
    assert ids(split_utterances(items)) != ids(split_utterances(items, seed=1))


def test_known_speakers_are_never_in_two_parts():
    # Very unequal speakers: the first says half of everything.
    parts = split_utterances(corpus(200, lambda n: f"s{0 if n % 2 else n % 16}"))
    speakers = [{item.speaker for item in part} for part in parts.values()]
    assert all(speakers)
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 8


def test_a_speaker_who_is_too_large_for_a_part_is_passed_over():
    # Whatever the order, the one who says 90 of 100 utterances is in train.
    for seed in range(10):
        items = corpus(100, lambda n: f"s{0 if n >= 10 else n + 1}")
        parts = split_utterances(items, (0.05, 0.05), seed=seed)
        assert [len(part) for part in parts.values()] == [90, 5, 5]


def test_with_two_speakers_or_an_unknown_one_utterances_are_split():
    parts = split_utterances(corpus(100, lambda n: f"s{n % 2}"))
    assert [len(part) for part in parts.values()] == [80, 10, 10]
    parts = split_utterances(corpus(100, lambda n: f"s{n % 9}" if n else None))
    assert [len(part) for part in parts.values()] == [80, 10, 10]


def test_what_cannot_be_split_is_an_error():
    with pytest.raises(CorpusError, match="at least 3 utterances.*got 2"):
        split_utterances(corpus(2))
    with pytest.raises(CorpusError, match="above 0 and together below 1"):
        split_utterances(corpus(9), (0.5, 0.5))


def write_wavs(folder, count, rate=16000, channels=1):
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        samples = numpy.full((800, channels), 0.1)
        soundfile.write(folder / f"u{n}.wav", samples, rate)


def test_a_folder_is_prepared_and_its_conversions_are_said_once(tmp_path, caplog):
    write_wavs(tmp_path / "audio", 10, rate=8000, channels=2)
    (tmp_path / "audio/bad.wav").touch()
    caplog.set_level(logging.INFO)
    prepare_corpus(tmp_path / "out", data_folder=tmp_path / "audio")
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert [line.split(":")[-1].strip() for line in warnings[1:]] == [
        "resampled to 16000 Hz when read",
        "averaged to mono when read",
    ]
    assert "1 files cannot be read" in warnings[0]
    root = corpus_root(data_folder=tmp_path / "audio")
    read = {
        p: read_manifest(tmp_path / f"out/{p}.csv", root) for p in ("train", "test")
    }
    assert (len(read["train"]), len(read["test"])) == (8, 1)


def test_a_folder_that_is_split_already_keeps_its_parts(tmp_path):
    for name, count in (("tr", 4), ("dev", 1), ("te", 2)):
        write_wavs(tmp_path / "audio" / name, count)
    parts = {"train": ["tr"], "valid": ["dev"], "test": ["te"]}
    prepare_corpus(tmp_path, data_folder=tmp_path / "audio", subfolders=parts)
    rows = read_manifest(tmp_path / "train.csv", tmp_path / "audio")
    assert [item.id for item in rows] == [f"tr/u{n}" for n in range(4)]
    parts["valid"] = ["missing"]
    with pytest.raises(CorpusError, match="subfolders missing are missing"):
        prepare_corpus(tmp_path, data_folder=tmp_path / "audio", subfolders=parts)
