"""Train, valid and test parts of a corpus, the same ones on every machine."""

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
from sb_espnet_vq.corpora.usable import leave_out, usable
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
    """Write train.csv, valid.csv and test.csv for any source of speech.

    Recordings that cannot be used for training (`usable`), and unreadable files in a
    folder, are skipped, reported in a warning and listed in left_out.txt beside the
    manifests.

    Arguments
    ---------
    output_folder : str | Path
        Where the three manifests go.
    data_folder : str | Path, optional
        A folder of audio, or ESC-50-master. With `manifest`, what `$data_root` stands
        for.
    manifest : str | Path, optional
        A CSV file that lists the audio. Without it and without `data_folder`
        the Free Spoken Digit Dataset is fetched.
    cache_folder : str | Path, optional
        Where a fetched corpus is kept; by default in the user's cache folder.
    sample_rate : int
        The rate the recipe reads audio at, in Hz.
    held_out : tuple[float, float]
        Shares of the utterances for valid and for test.
    seed : int
        Of the split.
    subfolders : Mapping[str, Sequence[str]], optional
        For a `data_folder` that is already split: the subfolders of each part.
    folds : Mapping[str, Sequence], optional
        For a corpus that comes in folds: those of `train` and those of `test`. Then
        valid is a share of train, and the second share of `held_out` is not used.
    esc10_only : bool
        Of ESC-50, take the clips of ESC-10 alone.

    Raises
    ------
    CorpusError
        The source is missing, empty, broken or too small to split, or nothing in it
        can be used.
    """
    root = corpus_root(data_folder, manifest, cache_folder, sample_rate)
    problems: list[str] = []
    found: dict[str, list[Utterance]] = {}
    if manifest is not None:
        found["all"] = read_manifest(manifest, root)
    elif data_folder is None:
        found["all"] = read_manifest(fetch_fsdd(cache_folder, sample_rate))
    elif subfolders is not None:
        found, problems = _scan_parts(root, subfolders)
    elif is_esc50(root):
        found["all"] = read_esc50(root, esc10_only)
    else:
        found["all"], problems = scan_folder(root)
    total = sum(map(len, found.values())) + len(problems)
    for name, utterances in found.items():
        found[name], more = usable(utterances, sample_rate)
        problems += more
        if utterances and not found[name]:
            raise CorpusError(
                f"none of {len(utterances)} files ({name}) can be used; the first: "
                f"{more[0]}"
            )
    leave_out(problems, total, Path(output_folder) / LEFT_OUT)
    if "all" not in found:
        parts = found
    elif folds is None:
        parts = split_utterances(found["all"], held_out, seed)
    else:
        parts = split_folds(found["all"], folds, held_out[0], seed)
    for name in PARTS:
        write_manifest(Path(output_folder) / f"{name}.csv", parts[name], root)
    _report(parts, sample_rate)


def corpus_root(
    data_folder: str | Path | None = None,
    manifest: str | Path | None = None,
    cache_folder: str | Path | None = None,
    sample_rate: int = 16000,
) -> Path:
    """What `$data_root` stands for in the manifests of `prepare_corpus`.

    Arguments
    ---------
    data_folder, manifest, cache_folder, sample_rate
        As there.

    Returns
    -------
    Path
        Absolute. Whether it exists is not looked at.
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
    """Split a corpus, by speaker where all speakers are known.

    The result depends on IDs, speakers and the seed, not on the order given.
    With fewer than three speakers, whole speakers cannot be held out twice;
    then, as where speakers are unknown, utterances are split. Clips whose IDs say
    that they were cut from one recording (`source_recording`) stay together.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        At least three.
    held_out : tuple[float, float]
        Shares of the utterances for valid and for test, each above 0 and
        together below 1. Every part gets at least one speaker or utterance.
    seed : int
        Of the random order.

    Returns
    -------
    dict[str, list[Utterance]]
        `train`, `valid` and `test`, each sorted by ID.

    Raises
    ------
    CorpusError
        Fewer than three utterances, or shares that leave nothing.

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
            "the shares held out for valid and test must be above 0 and together "
            f"below 1, not {tuple(held_out)}"
        )
    if len(utterances) < len(PARTS):
        raise CorpusError(
            "at least 3 utterances are needed for train, valid and test; "
            f"got {len(utterances)}"
        )
    groups = _groups(utterances, len(PARTS))
    order = _shuffled(groups, seed)
    parts: dict[str, list[Utterance]] = {}
    # Each part leaves a group for every part after it.
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
    """Split a corpus by its folds; valid is a share of what there is to train on.

    As in `split_utterances`, valid shares no speaker and no recording with train.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        Those of other folds are left out.
    folds : Mapping[str, Sequence]
        The folds of `train` and of `test`, as numbers or texts.
    valid_share : float
        Share of the utterances in the folds of train, above 0 and below 1.
    seed : int
        Of the random order.

    Returns
    -------
    dict[str, list[Utterance]]
        `train`, `valid` and `test`, each sorted by ID.

    Raises
    ------
    CorpusError
        A fold that is in both parts or holds nothing, or too little to train on.

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
            f"the share of valid must be above 0 and below 1, not {valid_share}"
        )
    wanted = {part: {str(fold) for fold in folds[part]} for part in ("train", "test")}
    both = sorted(wanted["train"] & wanted["test"])
    if both:
        raise CorpusError(f"fold {', '.join(both)} cannot be for training and for test")
    known = {item.fold for item in utterances}
    missing = sorted((wanted["train"] | wanted["test"]) - known)
    if missing or not all(wanted.values()):
        there = sorted(str(fold) for fold in known if fold is not None)
        raise CorpusError(
            f"no utterance is in fold {', '.join(missing) or '(none given)'}; the "
            f"corpus has {', '.join(there) or 'no column fold'}. Set train_folds and "
            "test_folds to folds that it has, or to null to split it at random"
        )
    test = [item for item in utterances if item.fold in wanted["test"]]
    groups = _groups([item for item in utterances if item.fold in wanted["train"]], 2)
    if len(groups) < 2:
        raise CorpusError(
            f"the folds of train ({', '.join(sorted(wanted['train']))}) hold one "
            "utterance or recording, of which none can be held out for valid"
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
    wanted: float,
    spare: int,
) -> set[str]:
    """Choose groups, in order, that add up to about `wanted` utterances."""
    taken: set[str] = set()
    for key in reversed(order):
        # Groups come whole: pass over one that would miss by more than it mends.
        if wanted >= len(groups[key]) / 2 and len(taken) < len(order) - spare:
            taken.add(key)
            wanted -= len(groups[key])
    return taken or {min(order, key=lambda key: len(groups[key]))}


def _groups(utterances: Sequence[Utterance], parts: int) -> dict[str, list[Utterance]]:
    """What must stay together: a speaker, or what was cut from one recording."""
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
            "splits to null to have any folder of audio split at random"
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
                "held_out, or add speech",
                *(name, len(parts[name]), _USES[name]),
            )
