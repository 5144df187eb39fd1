"""Manifests: CSV files that list utterances, one a row, in SpeechBrain's habit.

Columns `ID,duration,wav`, and where known `spk_id`, `label` and `fold`. Paths in `wav`
start with `$data_root` or are relative to the manifest's own folder.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sb_espnet_vq.corpora.audio import AUDIO_EXTENSIONS, AudioInfo, inspect_audio
from sb_espnet_vq.corpora.files import CorpusError, whole_file

DATA_ROOT = "$data_root"
SPEAKER_COLUMNS = ("spk_id", "speaker")


class Utterance(NamedTuple):
    """One recording.

    `speaker`, `label` and `fold` (the part of a corpus that comes divided) are None
    where unknown; `info` holds length (s), rate (Hz) and channels.
    """

    id: str
    wav: Path
    info: AudioInfo
    speaker: str | None = None
    label: str | None = None
    fold: str | None = None


def scan_folder(folder: str | Path) -> tuple[list[Utterance], list[str]]:
    """Find every audio file below a folder.

    Arguments
    ---------
    folder : str | Path
        Searched with all its subfolders, for the usual audio extensions.

    Returns
    -------
    utterances : list[Utterance]
        Sorted by path; the ID is the path below `folder` without its extension.
    problems : list[str]
        A line for each file that looks like audio and cannot be read. Those
        are left out.

    Raises
    ------
    CorpusError
        No such folder, or no readable audio in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder")
    paths = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(AUDIO_EXTENSIONS) and not name.startswith(".")
    )
    if not paths:
        raise CorpusError(
            f"{folder}: no audio in this folder or below it; "
            f"looked for {', '.join(AUDIO_EXTENSIONS)}"
        )
    utterances: list[Utterance] = []
    problems: list[str] = []
    for path in paths:
        try:
            info = inspect_audio(path)
        except CorpusError as error:
            problems.append(str(error))
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        utterances.append(Utterance(name, path, info))
    if not utterances:
        raise CorpusError(
            f"{folder}: none of its {len(paths)} audio files can be read; "
            f"the first: {problems[0]}"
        )
    return _with_unique_ids(utterances), problems


def read_manifest(
    path: str | Path, data_root: str | Path | None = None
) -> list[Utterance]:
    """Read a manifest and check every file that it lists.

    Arguments
    ---------
    path : str | Path
        A CSV file with a column `wav`; `ID`, `spk_id` (or `speaker`), `label` and
        `fold` are read where they are there, other columns are ignored.
    data_root : str | Path, optional
        What `$data_root` stands for, and what relative paths are relative to.
        By default the folder of the manifest.

    Returns
    -------
    list[Utterance]
        In the order of the file.

    Raises
    ------
    CorpusError
        No such manifest, no column `wav`, no rows, two rows with one ID, or a
        listed file is missing or broken.
    """
    path = Path(path)
    root = Path(data_root) if data_root is not None else path.parent
    rows = _read_rows(path)
    utterances = []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        where = f"{path}, line {number}"
        if not row.get("wav"):
            raise CorpusError(f"{where}: nothing in column wav")
        wav = root / row["wav"].replace(DATA_ROOT, str(root))
        name = row.get("ID") or wav.with_suffix("").name
        if name in seen:
            raise CorpusError(f"{where}: ID {name} is already on line {seen[name]}")
        seen[name] = number
        try:
            info = inspect_audio(wav)
        except CorpusError as error:
            raise CorpusError(f"{where}: {error}") from error
        speakers = (row[column] for column in SPEAKER_COLUMNS if row.get(column))
        speaker, label = next(speakers, None), row.get("label") or None
        fold = row.get("fold") or None
        utterances.append(Utterance(name, wav, info, speaker, label, fold))
    return utterances


def write_manifest(
    path: str | Path, utterances: Iterable[Utterance], data_root: str | Path
) -> None:
    """Write a manifest that SpeechBrain's `from_csv` and `read_manifest` read.

    Arguments
    ---------
    path : str | Path
        The CSV file, written whole or not at all.
    utterances : Iterable[Utterance]
        Its rows. Columns `spk_id` and `label` are empty where unknown.
    data_root : str | Path
        Files below this folder are written as `$data_root/...`, others with
        their absolute path.
    """
    root = Path(data_root).absolute()
    with (
        whole_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["ID", "duration", "wav", "spk_id", "label"])
        for item in utterances:
            wav = item.wav.absolute()
            shown = (
                f"{DATA_ROOT}/{wav.relative_to(root).as_posix()}"
                if wav.is_relative_to(root)
                else str(wav)
            )
            duration = f"{item.info.duration:.4f}"
            writer.writerow(
                [item.id, duration, shown, item.speaker or "", item.label or ""]
            )


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise CorpusError(f"{path}: no such manifest")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = list(reader)
            columns: Sequence[str] = reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    if "wav" not in columns:
        raise CorpusError(
            f"{path}: a manifest needs a column wav (and may have ID, duration, "
            f"spk_id, label); this one has {', '.join(columns) or 'none'}"
        )
    if not rows:
        raise CorpusError(f"{path}: this manifest has no rows")
    return rows


def _with_unique_ids(utterances: list[Utterance]) -> list[Utterance]:
    # a.wav and a.flac in one folder would otherwise share an ID.
    counts = Counter(item.id for item in utterances)
    return [
        item._replace(id=item.id + item.wav.suffix) if counts[item.id] > 1 else item
        for item in utterances
    ]
