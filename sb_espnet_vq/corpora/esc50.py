"""Reader of ESC-50, a dataset of environmental sounds, in its published layout.

Piczak 2015, "ESC: Dataset for Environmental Sound Classification": 2000 clips of 5 s,
50 classes, in 5 folds. Ten of the classes are ESC-10.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from sb_espnet_vq.corpora.audio import inspect_audio
from sb_espnet_vq.corpora.manifest import Utterance
from sb_espnet_vq.errors import CorpusError

META = Path("meta", "esc50.csv")
# A clip's ID: fold, recording, take and, in ESC-50, class.
_CLIP = re.compile(r"\d+-(\d+)-[A-Z](-\d+)?")


def is_esc50(folder: str | Path) -> bool:
    """Return whether a folder is ESC-50-master, which contains `meta/esc50.csv`.

    Arguments
    ---------
    folder : str | Path
        Any folder.

    Returns
    -------
    bool
    """
    return (Path(folder) / META).is_file()


def read_esc50(folder: str | Path, esc10_only: bool = False) -> list[Utterance]:
    """Read the list of clips and check every file.

    Arguments
    ---------
    folder : str | Path
        ESC-50-master, with `meta/esc50.csv` and `audio`.
    esc10_only : bool
        Use only the clips of ESC-10.

    Returns
    -------
    list[Utterance]
        In the order of the list, with the fold and, as label, the category.

    Raises
    ------
    CorpusError
        If a column or a clip is missing, the list is empty, or a clip cannot be read.
    """
    path = Path(folder) / META
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        needed = {"filename", "fold", "category", "esc10"}
        missing = sorted(needed - set(reader.fieldnames or ()))
        if missing:
            raise CorpusError(f"{path}: it has no column {', '.join(missing)}")
        rows = [row for row in reader if not esc10_only or row["esc10"] == "True"]
    if not rows:
        raise CorpusError(f"{path}: it lists no clips")
    clips = []
    for row in rows:
        wav = Path(folder, "audio", row["filename"])
        info = inspect_audio(wav)
        label, fold = row["category"], row["fold"]
        clips.append(Utterance(wav.stem, wav, info, None, label, fold))
    return clips


def source_recording(name: str) -> str:
    """Return the recording from which a clip was cut, according to its ESC-50 ID.

    Arguments
    ---------
    name : str
        ID of an utterance.

    Returns
    -------
    str
        Equal for clips of one recording; any other ID is returned unchanged.

    Example
    -------
    >>> [source_recording(name) for name in ("1-977-A-39", "1-977-B", "fsdd_1_7")]
    ['recording 977', 'recording 977', 'fsdd_1_7']
    """
    clip = _CLIP.fullmatch(name)
    return name if clip is None else f"recording {clip[1]}"
