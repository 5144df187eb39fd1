"""Manifests: CSV files with one utterance per row, in SpeechBrain's format.

The columns are `wav` and, optionally, `ID`, `duration`, `spk_id`, `label`, `transcript`
and `fold`.
Paths in `wav` are absolute, relative to the folder of the manifest, or start with
`$data_root`.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sb_espnet_vq.corpora.audio import (
    AUDIO_EXTENSIONS,
    OTHER_EXTENSIONS,
    AudioInfo,
    inspect_audio,
)
from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.utils.files import atomic_file

DATA_ROOT = "$data_root"
COLUMNS = ("ID", "duration", "wav", "spk_id", "label", "transcript")
SPEAKER_COLUMNS = ("spk_id", "speaker")
# Files of transcripts in LibriSpeech.
TRANSCRIPTS = ".trans.txt"


class Utterance(NamedTuple):
    """One recording.

    `speaker`, `label`, `fold` (of a corpus with predefined folds) and `transcript` are
    None if unknown; `info` holds duration (s), sample rate (Hz) and channels.
    """

    id: str
    wav: Path
    info: AudioInfo
    speaker: str | None = None
    label: str | None = None
    fold: str | None = None
    transcript: str | None = None


def scan_folder(folder: str | Path) -> tuple[list[Utterance], list[str]]:
    """Find every audio file below a folder.

    Arguments
    ---------
    folder : str | Path
        Searched recursively for the usual audio extensions, and for the transcripts of
        LibriSpeech: each line of a file `*.trans.txt` has the name of an audio file in
        the same folder, without its extension, and the transcript.

    Returns
    -------
    utterances : list[Utterance]
        Sorted by path; the ID is the path relative to `folder` without its extension.
    problems : list[str]
        One line for each unreadable audio file or folder; these are skipped.

    Raises
    ------
    CorpusError
        If the folder does not exist or contains no readable audio.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder")
    problems: list[str] = []

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: not readable as a folder ({error})")

    files = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=unreadable)
        for name in names
        if not name.startswith(".")
    )
    paths = [path for path in files if path.name.lower().endswith(AUDIO_EXTENSIONS)]
    formats = ", ".join(AUDIO_EXTENSIONS)
    problems += [
        f"{path}: audio of this format is not read; convert it to one of {formats}"
        for path in files
        if path.name.lower().endswith(OTHER_EXTENSIONS)
    ]
    if not paths:
        raise CorpusError(
            f"{folder}: no audio in this folder or below it; looked for {formats}"
            + (f". {problems[0]}" if problems else "")
        )
    utterances: list[Utterance] = []
    transcripts = _transcripts(files)
    for path in paths:
        try:
            info = inspect_audio(path)
        except CorpusError as error:
            problems.append(str(error))
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        text = transcripts.get(path.with_suffix(""))
        utterances.append(Utterance(name, path, info, transcript=text))
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
        A CSV file with a column `wav` and, optionally, `ID`, `spk_id` (or `speaker`),
        `label`, `transcript` and `fold`; other columns are ignored.
    data_root : str | Path, optional
        Value of `$data_root` and base of relative paths. By default the folder of the
        manifest.

    Returns
    -------
    list[Utterance]
        In the order of the file.

    Raises
    ------
    CorpusError
        If the manifest does not exist or has no column `wav`, no rows or a duplicate
        ID, or a listed file is missing or broken.
    """
    path = Path(path)
    root = Path(data_root) if data_root is not None else path.parent
    rows = read_rows(path)
    utterances = []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        where = f"{path}, line {number}"
        if not row.get("wav"):
            raise CorpusError(f"{where}: column wav is empty")
        wav = audio_path(row["wav"], root)
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
        fold, text = row.get("fold") or None, row.get("transcript") or None
        utterances.append(Utterance(name, wav, info, speaker, label, fold, text))
    return utterances


def audio_path(text: str, data_root: str | Path) -> Path:
    """Return the path of the file that an entry of the column `wav` names.

    Arguments
    ---------
    text : str
        The entry. `$` is special only in a leading `$data_root`.
    data_root : str | Path
        Value of `$data_root`, and base of relative paths.

    Returns
    -------
    Path

    Example
    -------
    >>> audio_path("$data_root/a$b.wav", "/data").as_posix()
    '/data/a$b.wav'
    """
    below = text.removeprefix(DATA_ROOT)
    if below != text and below.startswith(("/", os.sep)):
        return Path(data_root, below.lstrip("/" + os.sep))
    return Path(data_root, text)


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Read the rows of a manifest without interpreting them.

    Arguments
    ---------
    path : str | Path
        A CSV file with a column `wav`.

    Returns
    -------
    list[dict[str, str]]
        Column to value for each row, in the order of the file.

    Raises
    ------
    CorpusError
        If the file does not exist, is not a CSV file, or has no column `wav` or no
        rows.
    """
    path = Path(path)
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
            f"spk_id, label, transcript); this one has {', '.join(columns) or 'none'}"
        )
    if not rows:
        raise CorpusError(f"{path}: this manifest has no rows")
    return rows


def write_manifest(
    path: str | Path,
    utterances: Iterable[Utterance],
    data_root: str | Path | None = None,
) -> None:
    """Write a manifest for `read_manifest` and SpeechBrain's `from_csv`.

    Arguments
    ---------
    path : str | Path
        The CSV file, written atomically.
    utterances : Iterable[Utterance]
        Its rows. `spk_id`, `label` and `transcript` are empty if unknown; folds are not
        written.
    data_root : str | Path, optional
        Files in this folder are written as `$data_root/...`, others with their absolute
        path.
    """
    root = None if data_root is None else Path(data_root).absolute()
    rows = []
    for item in utterances:
        wav = item.wav.absolute()
        shown = (
            f"{DATA_ROOT}/{wav.relative_to(root).as_posix()}"
            if root is not None and wav.is_relative_to(root)
            else str(wav)
        )
        known = (item.speaker, item.label, item.transcript)
        rows.append(
            [item.id, f"{item.info.duration:.4f}", shown]
            + [value or "" for value in known]
        )
    _write_rows(path, COLUMNS, rows)


def copy_manifest(
    source: str | Path, target: str | Path, data_root: str | Path
) -> None:
    """Copy a manifest, with absolute paths.

    Arguments
    ---------
    source : str | Path
        As for `read_rows`.
    target : str | Path
        The CSV file, written atomically.
    data_root : str | Path
        Value of `$data_root`, and base of relative paths.

    Raises
    ------
    CorpusError
        As `read_rows`.
    """
    rows = read_rows(source)
    root = Path(data_root).absolute()
    for row in rows:
        row["wav"] = str(audio_path(row["wav"], root))
    _write_rows(target, list(rows[0]), [list(row.values()) for row in rows])


def _write_rows(
    path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    with (
        atomic_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        # Quotes preserve leading spaces of names.
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        writer.writerows(rows)


def _transcripts(files: Iterable[Path]) -> dict[Path, str]:
    """Read the transcripts of LibriSpeech by the path of the audio, without suffix."""
    texts: dict[Path, str] = {}
    for path in files:
        if not path.name.endswith(TRANSCRIPTS):
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"{path}: not readable as text ({error})") from error
        for line in lines:
            name, _, text = line.partition(" ")
            texts[path.parent / name] = text.strip()
    return texts


def _with_unique_ids(utterances: list[Utterance]) -> list[Utterance]:
    # a.wav and a.flac in one folder would otherwise share an ID.
    counts = Counter(item.id for item in utterances)
    return [
        item._replace(id=item.id + item.wav.suffix) if counts[item.id] > 1 else item
        for item in utterances
    ]
