"""All of a folder or a manifest as test speech."""

from __future__ import annotations

from pathlib import Path

from sb_espnet_vq.corpora.esc50 import is_esc50, read_esc50
from sb_espnet_vq.corpora.manifest import (
    Utterance,
    read_manifest,
    scan_folder,
    write_manifest,
)
from sb_espnet_vq.corpora.splits import LEFT_OUT
from sb_espnet_vq.corpora.usable import report_skipped, usable


def find_speech(
    data_folder: str | Path | None = None, manifest: str | Path | None = None
) -> tuple[list[Utterance], list[str]]:
    """Find the utterances of a folder or a manifest.

    Arguments
    ---------
    data_folder : str | Path, optional
        A folder of audio, or ESC-50-master. With `manifest`, the value of
        `$data_root`.
    manifest : str | Path, optional
        A CSV file that lists the audio.

    Returns
    -------
    utterances : list[Utterance]
    problems : list[str]
        One line for each file that cannot be read.

    Raises
    ------
    CorpusError
        If there is no such source, or no readable audio in it.
    """
    if manifest is not None:
        return read_manifest(manifest, data_folder), []
    if is_esc50(data_folder or "."):
        return read_esc50(data_folder or "."), []
    return scan_folder(data_folder or ".")


def write_speech(
    folder: str | Path,
    utterances: list[Utterance],
    problems: list[str],
    sample_rate: int,
) -> None:
    """Write test.csv with absolute paths, and left_out.txt.

    Arguments
    ---------
    folder : str | Path
        Folder for both.
    utterances, problems
        From `find_speech`.
    sample_rate : int
        The rate at which the recipe reads audio, in Hz.

    Raises
    ------
    CorpusError
        If no utterance can be used.
    """
    kept, more = usable(utterances, sample_rate)
    total = len(utterances) + len(problems)
    report_skipped([*problems, *more], total, Path(folder) / LEFT_OUT)
    write_manifest(Path(folder) / "test.csv", sorted(kept, key=lambda u: u.id))
