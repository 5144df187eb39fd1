"""Utterances with transcripts, joined to longer ones, and how many of them are used."""

import itertools
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from speechbrain.dataio.dataset import FilteredSortedDynamicItemDataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.contrib import tqdm

from sb_espnet_vq.corpora import read_rows
from sb_espnet_vq.errors import ConfigError, CorpusError
from sb_espnet_vq.recognition.vocabulary import Vocabulary
from sb_espnet_vq.training.data import read_datasets
from sb_espnet_vq.training.results import minutes

logger = logging.getLogger(__name__)

KEYS = ["id", "sig", "duration", "transcript"]


class TranscribedBatch(NamedTuple):
    """Joined utterances, padded at the end, and their transcripts."""

    ids: list[str]  # of the first utterance of each row
    signals: Tensor  # (B, L, ...), what the input reads of audio
    samples: Tensor  # (B,) int64, length of each row
    units: Tensor  # (B, U) int64, padded with 0
    counts: Tensor  # (B,) int64, units of each row
    texts: list[str]
    seconds: list[float]


class JoinTranscribed:
    """Collate function that concatenates short utterances and their transcripts.

    As `JoinShort`, but by the duration of the audio, so that the same utterances are
    joined for every input.
    """

    def __init__(self, vocabulary: Vocabulary, join_seconds: float):
        self.vocabulary, self.limit = vocabulary, join_seconds

    def __call__(self, items: Sequence[dict[str, Any]]) -> TranscribedBatch:
        rows: list[list[dict[str, Any]]] = []
        seconds: list[float] = []
        for item in items:
            if not rows or seconds[-1] + item["duration"] > self.limit:
                rows.append([])
                seconds.append(0.0)
            rows[-1].append(item)
            seconds[-1] += item["duration"]
        signals = [torch.cat([item["sig"] for item in row]) for row in rows]
        texts = [" ".join(item["transcript"] for item in row) for row in rows]
        encoded = [self.vocabulary.encode(text) for text in texts]
        units = [torch.tensor(row, dtype=torch.int64) for row in encoded]
        return TranscribedBatch(
            [row[0]["id"] for row in rows],
            pad_sequence(signals, True),
            torch.tensor([len(signal) for signal in signals]),
            # At least one column, also if all words are unknown.
            F.pad(pad_sequence(units, True), (0, 1)),
            torch.tensor([len(row) for row in units]),
            texts,
            seconds,
        )


def read_transcribed(hparams: dict[str, Any]) -> dict[str, Any]:
    """Read the splits, limit the labels, and build what depends on the transcripts.

    Arguments
    ---------
    hparams : dict
        From the YAML; `vocabulary`, `collate` and the module `recognizer` are set.

    Returns
    -------
    dict
        train, valid and test; `rounds` is train, repeated until it is as long as all
        training speech, so that every number of labels takes about as many steps.
    """
    datasets = {
        part: _transcribed(data, part) for part, data in read_datasets(hparams).items()
    }
    everything = datasets["train"]
    texts = [everything.data[name]["transcript"] for name in everything.data_ids]
    vocabulary = Vocabulary.of(texts, hparams["units"])
    datasets["train"] = limit(everything, hparams["train_minutes"], hparams["seed"])
    # An evaluation reads only test speech.
    read = ["test"] if "evaluated" in hparams else list(datasets)
    _read_with(hparams["source"], datasets, read, hparams["sample_rate"])
    hparams["vocabulary"] = vocabulary
    hparams["collate"] = JoinTranscribed(vocabulary, hparams["join_seconds"])
    width, source = len(vocabulary), hparams["source"]
    recognizer = hparams["recognizer"](source.width, width)
    hparams["modules"]["recognizer"] = recognizer
    hparams["checkpointer"].add_recoverable("recognizer", recognizer)
    return datasets | {"rounds": _repeated(datasets["train"], minutes(everything))}


def limit(dataset: Any, longest: float | None, seed: int) -> Any:
    """Return a random part of a dataset with so many minutes; None: all of it.

    A shorter part is contained in a longer one of the same seed.
    """
    if longest is None:
        return dataset
    if longest > minutes(dataset):
        raise ConfigError(
            f"train_minutes is {longest}, but there are {minutes(dataset):.1f} minutes "
            "of training speech with transcripts: set it to null for all"
        )
    order = sorted(dataset.data_ids)
    random.Random(seed).shuffle(order)
    chosen, seconds = [], 0.0
    for name in order:
        if seconds >= 60 * longest:
            break
        chosen.append(name)
        seconds += dataset.data[name]["duration"]
    return _only(dataset, sorted(chosen))


def count_seen(run: str | None, test: Any) -> int:
    """Count the test utterances that another run was trained on.

    0 if this is not known.
    """
    listed = Path(run or "", "train.csv")
    if run is None or not listed.is_file():
        return 0
    seen = {row.get("ID") for row in read_rows(listed)} & set(test.data_ids)
    if seen:
        logger.warning(
            "%d of %d test utterances were training speech of %s: give both runs the "
            "same seed, data and held_out",
            *(len(seen), len(test.data_ids), run),
        )
    return len(seen)


def _transcribed(dataset: Any, part: str) -> Any:
    """Return the utterances that have a transcript or, without it, a label."""
    for row in dataset.data.values():
        row["transcript"] = row.get("transcript") or row.get("label") or ""
    known = [n for n in dataset.data_ids if dataset.data[n]["transcript"].split()]
    if not known:
        raise CorpusError(
            f"no utterance of {part} has a transcript: recognition needs a manifest "
            "with a column transcript (or label), or a folder as LibriSpeech's"
        )
    if len(known) < len(dataset):
        logger.warning(
            "%s: %d of %d utterances have no transcript and are left out",
            *(part, len(dataset) - len(known), len(dataset)),
        )
    chosen = _only(dataset, known)
    chosen.set_output_keys(KEYS)
    return chosen


def _read_with(
    source: Any, datasets: dict[str, Any], parts: list[str], sample_rate: int
) -> None:
    """Let a dataset read audio as an input does, once if it is kept in memory."""
    if not source.in_memory:
        return
    held = {}
    for part in parts:
        data = datasets[part]
        for name in tqdm(data.data_ids, desc=f"tokens of {part}", dynamic_ncols=True):
            held[name] = source.read(data.data[name]["wav"], sample_rate)
    for data in datasets.values():
        # Not a bound method, which would be copied with the dataset.
        data.add_dynamic_item(lambda name: held[name], takes="id", provides="frames")
        data.set_output_keys({key: key for key in KEYS} | {"sig": "frames"})


def _repeated(dataset: Any, longest: float) -> Any:
    """Return a dataset repeated to so many minutes, which it does not exceed."""
    names, seconds = [], 0.0
    for name in itertools.cycle(dataset.data_ids):
        seconds += dataset.data[name]["duration"]
        # Rounding: the whole training set is as long as itself.
        if seconds > 60 * longest + 1e-6:
            return _only(dataset, names)
        names.append(name)


def _only(dataset: Any, names: list[str]) -> Any:
    """Return the named utterances of a dataset, which may be named repeatedly."""
    return FilteredSortedDynamicItemDataset(dataset, names)
