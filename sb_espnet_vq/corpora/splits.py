"""Reproducible splits of a corpus into training, validation and test sets."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sb_espnet_vq.corpora.audio import conversion_notes
from sb_espnet_vq.corpora.esc50 import is_esc50, read_esc50, source_recording
from sb_espnet_vq.corpora.fsdd import fetch_fsdd, fsdd_folder
from sb_espnet_vq.corpora.manifest import (
    Utterance,
    read_manifest,
    scan_folder,
    write_manifest,
)
from sb_espnet_vq.corpora.usable import report_skipped, usable
from sb_espnet_vq.errors import CorpusError

logger = logging.getLogger(__name__)

PARTS = ("train", "valid", "test")
LEFT_OUT = "left_out.txt"
# Metrics on fewer utterances are too noisy.
FEW = 5
_USES = {
    "valid": "they select the best checkpoint",
    "test": "all results are measured on them",
}


def prepare_corpus(
    output_folder: str | Path,
    *,
    data_folder: str | Path | None = None,
    manifest: str | Path | None = None,
    cache_folder: str | Path | None = None,
    sample_rate: int = 16000,
    held_out: tuple[float, float] = (0.1, 0.1),
    seed: int = 0,
    subfolders: Mapping[str, Sequence[str]] | None = None,
    folds: Mapping[str, Sequence[object]] | None = None,
    esc10_only: bool = False,
) -> None:
    """Write train.csv, valid.csv and test.csv for any source of audio.

    Recordings that cannot be used for training (`usable`), and unreadable files in a
    folder, are skipped, reported in a warning and listed in left_out.txt beside the
    manifests.

    Arguments
    ---------
    output_folder : str | Path
        Folder for the three manifests.
    data_folder : str | Path, optional
        A folder of audio, or ESC-50-master. With `manifest`, the value of
        `$data_root`.
    manifest : str | Path, optional
        A CSV file that lists the audio. Without it and without `data_folder`
        the Free Spoken Digit Dataset is downloaded.
    cache_folder : str | Path, optional
        Folder for a downloaded corpus. Default: one in the user's cache folder.
    sample_rate : int
        The rate at which the recipe reads audio, in Hz.
    held_out : tuple[float, float]
        Fractions of the utterances for valid and for test.
    seed : int
        Seed of the split.
    subfolders : Mapping[str, Sequence[str]], optional
        For a `data_folder` that is already split: the subfolders of each part.
    folds : Mapping[str, Sequence], optional
        For a corpus with predefined folds: those of `train` and those of `test`. Valid
        is then a fraction of train, and the second value of `held_out` is not used.
    esc10_only : bool
        Use only the ESC-10 clips of ESC-50.

    Raises
    ------
    CorpusError
        If the source is missing, empty, broken or too small to split, or contains no
        usable audio.
    """
    root = corpus_root(data_folder, manifest, cache_folder, sample_rate)
    problems: list[str] = []
    by_part: dict[str, list[Utterance]] = {}
    if manifest is not None:
        by_part["all"] = read_manifest(manifest, root)
    elif data_folder is None:
        by_part["all"] = read_manifest(fetch_fsdd(cache_folder, sample_rate))
    elif subfolders is not None:
        by_part, problems = _scan_parts(root, subfolders)
    elif is_esc50(root):
        by_part["all"] = read_esc50(root, esc10_only)
    else:
        by_part["all"], problems = scan_folder(root)
    total = sum(map(len, by_part.values())) + len(problems)
    for name, utterances in by_part.items():
        by_part[name], more = usable(utterances, sample_rate)
        problems += more
        if utterances and not by_part[name]:
            raise CorpusError(
                f"none of {len(utterances)} files ({name}) can be used; the first: "
                f"{more[0]}"
            )
    report_skipped(problems, total, Path(output_folder) / LEFT_OUT)
    if "all" not in by_part:
        parts = by_part
    elif folds is None:
        parts = split_utterances(by_part["all"], held_out, seed)
    else:
        parts = split_folds(by_part["all"], folds, held_out[0], seed)
    for name in PARTS:
        write_manifest(Path(output_folder) / f"{name}.csv", parts[name], root)
    _report(parts, sample_rate)


def corpus_root(
    data_folder: str | Path | None = None,
    manifest: str | Path | None = None,
    cache_folder: str | Path | None = None,
    sample_rate: int = 16000,
) -> Path:
    """Return the value of `$data_root` in the manifests of `prepare_corpus`.

    Arguments
    ---------
    data_folder, manifest, cache_folder, sample_rate
        As in `prepare_corpus`.

    Returns
    -------
    Path
        Absolute; it need not exist.
    """
    if data_folder is not None:
        return Path(data_folder).absolute()
    if manifest is not None:
        return Path(manifest).parent.absolute()
    return fsdd_folder(cache_folder, sample_rate).absolute()


def split_utterances(
    utterances: Sequence[Utterance],
    held_out: tuple[float, float] = (0.1, 0.1),
    seed: int = 0,
) -> dict[str, list[Utterance]]:
    """Split a corpus, by speaker if all speakers are known.

    The result depends on IDs, speakers and the seed, not on the order of the
    utterances. If speakers are unknown or fewer than three, the split is by utterance.
    Clips cut from one recording (`source_recording`) stay together.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        At least three.
    held_out : tuple[float, float]
        Fractions of the utterances for valid and for test, each above 0 and
        together below 1. Every part gets at least one speaker or utterance.
    seed : int
        Seed of the random order.

    Returns
    -------
    dict[str, list[Utterance]]
        `train`, `valid` and `test`, each sorted by ID.

    Raises
    ------
    CorpusError
        If there are fewer than three utterances, or the fractions are out of range.

    Example
    -------
    >>> from sb_espnet_vq.corpora.audio import AudioInfo
    >>> info = AudioInfo(1.0, 16000, 1)
    >>> items = [Utterance(f"u{n}", Path("x"), info) for n in range(10)]
    >>> {name: len(part) for name, part in split_utterances(items).items()}
    {'train': 8, 'valid': 1, 'test': 1}
    """
    if min(held_out) <= 0 or sum(held_out) >= 1:
        raise CorpusError(
            "the fractions held out for valid and test must be above 0 and together "
            f"below 1, got {tuple(held_out)}"
        )
    if len(utterances) < len(PARTS):
        raise CorpusError(
            "train, valid and test need at least 3 utterances in all, "
            f"got {len(utterances)}"
        )
    groups = _groups(utterances, len(PARTS))
    order = _shuffled(groups, seed)
    parts: dict[str, list[Utterance]] = {}
    # Leave at least one group for each of the remaining parts.
    for name, share, later in (("valid", held_out[0], 2), ("test", held_out[1], 1)):
        taken = _take(order, groups, share * len(utterances), later)
        order = [key for key in order if key not in taken]
        parts[name] = [item for key in taken for item in groups[key]]
    parts["train"] = [item for key in order for item in groups[key]]
    return {name: sorted(parts[name], key=lambda u: u.id) for name in PARTS}


def split_folds(
    utterances: Sequence[Utterance],
    folds: Mapping[str, Sequence[object]],
    valid_share: float = 0.1,
    seed: int = 0,
) -> dict[str, list[Utterance]]:
    """Split a corpus by its folds; valid is a fraction of the folds of train.

    As in `split_utterances`, valid shares no speaker and no recording with train.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        Utterances of other folds are ignored.
    folds : Mapping[str, Sequence]
        The folds of `train` and of `test`, as numbers or strings.
    valid_share : float
        Fraction of the utterances in the folds of train, above 0 and below 1.
    seed : int
        Seed of the random order.

    Returns
    -------
    dict[str, list[Utterance]]
        `train`, `valid` and `test`, each sorted by ID.

    Raises
    ------
    CorpusError
        If a fold is in both parts or empty, or too few utterances are left for train.

    Example
    -------
    >>> from sb_espnet_vq.corpora.audio import AudioInfo
    >>> info = AudioInfo(1.0, 16000, 1)
    >>> items = [
    ...     Utterance(f"u{n}", Path("x"), info, fold=str(n % 3)) for n in range(30)
    ... ]
    >>> parts = split_folds(items, {"train": [0, 1], "test": [2]})
    >>> {name: len(part) for name, part in parts.items()}
    {'train': 18, 'valid': 2, 'test': 10}
    """
    if not 0 < valid_share < 1:
        raise CorpusError(
            f"the fraction for valid must be above 0 and below 1, got {valid_share}"
        )
    chosen = {part: {str(fold) for fold in folds[part]} for part in ("train", "test")}
    both = sorted(chosen["train"] & chosen["test"])
    if both:
        raise CorpusError(f"fold {', '.join(both)} is both in train and in test")
    known = {item.fold for item in utterances}
    missing = sorted((chosen["train"] | chosen["test"]) - known)
    if missing or not all(chosen.values()):
        existing = sorted(str(fold) for fold in known if fold is not None)
        raise CorpusError(
            f"no utterance is in fold {', '.join(missing) or '(none given)'}; the "
            f"corpus has {', '.join(existing) or 'no column fold'}. Set train_folds "
            "and test_folds to existing folds, or to null for a random split"
        )
    test = [item for item in utterances if item.fold in chosen["test"]]
    groups = _groups([item for item in utterances if item.fold in chosen["train"]], 2)
    if len(groups) < 2:
        raise CorpusError(
            f"the folds of train ({', '.join(sorted(chosen['train']))}) contain only "
            "one utterance or recording, so that none can be held out for valid"
        )
    count = sum(map(len, groups.values()))
    valid = _take(_shuffled(groups, seed), groups, valid_share * count, 1)
    parts = {
        "train": [u for key in groups if key not in valid for u in groups[key]],
        "valid": [u for key in valid for u in groups[key]],
        "test": test,
    }
    return {name: sorted(parts[name], key=lambda u: u.id) for name in PARTS}


def _shuffled(groups: Mapping[str, Sequence[Utterance]], seed: int) -> list[str]:
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    return order


def _take(
    order: Sequence[str],
    groups: Mapping[str, Sequence[Utterance]],
    target: float,
    spare: int,
) -> set[str]:
    """Choose groups, in order, with about `target` utterances in all."""
    taken: set[str] = set()
    for key in reversed(order):
        # Groups are not divided: skip those that would increase the error.
        if target >= len(groups[key]) / 2 and len(taken) < len(order) - spare:
            taken.add(key)
            target -= len(groups[key])
    return taken or {min(order, key=lambda key: len(groups[key]))}


def _groups(utterances: Sequence[Utterance], parts: int) -> dict[str, list[Utterance]]:
    """Group utterances that must stay together: by speaker, or by recording."""
    if all(item.speaker is not None for item in utterances):
        speakers = _by(lambda item: str(item.speaker), utterances)
        if len(speakers) >= parts:
            return speakers
    recordings = _by(lambda item: source_recording(item.id), utterances)
    if len(recordings) >= parts:
        return recordings
    return {item.id: [item] for item in utterances}


def _by(
    key: Callable[[Utterance], str], utterances: Sequence[Utterance]
) -> dict[str, list[Utterance]]:
    groups: dict[str, list[Utterance]] = {}
    for item in utterances:
        groups.setdefault(key(item), []).append(item)
    return groups


def _scan_parts(
    root: Path, subfolders: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[Utterance]], list[str]]:
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder")
    names = [name for part in PARTS for name in subfolders[part]]
    missing = [name for name in names if not (root / name).is_dir()]
    if missing:
        raise CorpusError(
            f"{root}: its subfolders {', '.join(missing)} are missing; set the "
            "splits to null for a random split of any folder of audio"
        )
    parts: dict[str, list[Utterance]] = {part: [] for part in PARTS}
    problems: list[str] = []
    for part in PARTS:
        for name in subfolders[part]:
            utterances, more = scan_folder(root / name)
            problems += more
            parts[part] += [u._replace(id=f"{name}/{u.id}") for u in utterances]
    return parts, problems


def _report(parts: Mapping[str, Sequence[Utterance]], sample_rate: int) -> None:
    infos = [item.info for name in PARTS for item in parts[name]]
    for note in conversion_notes(infos, sample_rate):
        logger.warning(note)
    for name in PARTS:
        minutes = sum(item.info.duration for item in parts[name]) / 60
        speakers = {item.speaker for item in parts[name] if item.speaker}
        known = f", {len(speakers)} speakers" if speakers else ""
        logger.info(
            "%s: %d utterances, %.1f min%s", name, len(parts[name]), minutes, known
        )
    for name in ("valid", "test"):
        if len(parts[name]) < FEW:
            logger.warning(
                "%s has %d utterances, too few for reliable metrics: %s. Increase "
                "held_out or add speech",
                *(name, len(parts[name]), _USES[name]),
            )
