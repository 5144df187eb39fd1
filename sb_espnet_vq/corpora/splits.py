"""Train, valid and test parts of a corpus, the same ones on every machine."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from sb_espnet_vq.corpora.audio import conversion_notes
from sb_espnet_vq.corpora.files import CorpusError
from sb_espnet_vq.corpora.fsdd import fetch_fsdd, fsdd_folder
from sb_espnet_vq.corpora.manifest import (
    Utterance,
    read_manifest,
    scan_folder,
    write_manifest,
)

logger = logging.getLogger(__name__)

PARTS = ("train", "valid", "test")


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
) -> None:
    """Write train.csv, valid.csv and test.csv for any source of speech.

    Arguments
    ---------
    output_folder : str | Path
        Where the three manifests go.
    data_folder : str | Path, optional
        A folder of audio. With `manifest`, what `$data_root` stands for.
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

    Raises
    ------
    CorpusError
        The source is missing, empty, broken or too small to split.
    """
    root = corpus_root(data_folder, manifest, cache_folder, sample_rate)
    if manifest is None and data_folder is not None and subfolders is not None:
        parts = _scan_parts(root, subfolders)
    else:
        if manifest is not None:
            utterances = read_manifest(manifest, root)
        elif data_folder is not None:
            utterances = _scan(root)
        else:
            utterances = read_manifest(fetch_fsdd(cache_folder, sample_rate))
        parts = split_utterances(utterances, held_out, seed)
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
    then, as where speakers are unknown, utterances are split.

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
    groups = _groups(utterances)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    parts: dict[str, list[Utterance]] = {}
    # Each part leaves a group for every part after it.
    for name, share, later in (("valid", held_out[0], 2), ("test", held_out[1], 1)):
        taken = _take(order, groups, share * len(utterances), later)
        order = [key for key in order if key not in taken]
        parts[name] = [item for key in taken for item in groups[key]]
    parts["train"] = [item for key in order for item in groups[key]]
    return {name: sorted(parts[name], key=lambda u: u.id) for name in PARTS}


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


def _groups(utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    speakers: dict[str, list[Utterance]] = {}
    if all(item.speaker is not None for item in utterances):
        for item in utterances:
            speakers.setdefault(str(item.speaker), []).append(item)
    if len(speakers) >= len(PARTS):
        return speakers
    return {item.id: [item] for item in utterances}


def _scan(folder: Path) -> list[Utterance]:
    utterances, problems = scan_folder(folder)
    if problems:
        logger.warning(
            "%s: %d files cannot be read and are left out; the first: %s",
            folder,
            len(problems),
            problems[0],
        )
    return utterances


def _scan_parts(
    root: Path, subfolders: Mapping[str, Sequence[str]]
) -> dict[str, list[Utterance]]:
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder")
    names = [name for part in PARTS for name in subfolders[part]]
    missing = [name for name in names if not (root / name).is_dir()]
    if missing:
        raise CorpusError(
            f"{root}: its subfolders {', '.join(missing)} are missing; set the "
            "splits to null to have any folder of audio split at random"
        )
    return {
        part: [
            item._replace(id=f"{name}/{item.id}")
            for name in subfolders[part]
            for item in _scan(root / name)
        ]
        for part in PARTS
    }


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
