"""The audio files of a corpus, and the keys of their tokens."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sb_espnet_vq.corpora.audio import AUDIO_EXTENSIONS
from sb_espnet_vq.errors import ConfigError


def find_files(
    paths: Sequence[str | Path], extensions: tuple[str, ...] = AUDIO_EXTENSIONS
) -> dict[str, Path]:
    """Return the files to process by key, sorted by key.

    Arguments
    ---------
    paths : sequence of str or Path
        Files, and folders that are searched.
    extensions : tuple of str
        Ends of the names of the files to take from folders.

    Returns
    -------
    dict
        The key of a file is its name without extension; in a folder, its path below it
        with - between the parts. Whitespace becomes _.

    Raises
    ------
    ConfigError
        If a path does not exist, there are no files, or two have the same key.
    """
    found: dict[str, Path] = {}
    for top in map(Path, paths):
        for file in _files_of(top, extensions):
            below = file.relative_to(top) if top.is_dir() else Path(file.name)
            key = re.sub(r"\s", "_", "-".join(below.with_suffix("").parts))
            if key in found:
                raise ConfigError(
                    f"{found[key]} and {file} have the same key {key!r}: rename one, "
                    "or process them into two folders"
                )
            found[key] = file
    if not found:
        raise ConfigError(
            f"no file with {', '.join(extensions)} in {', '.join(map(str, paths))}"
        )
    return dict(sorted(found.items()))


def shard(
    files: Mapping[str, Path], environ: Mapping[str, str] = os.environ
) -> tuple[dict[str, Path], int]:
    """Return the part of this process under torchrun, and its rank.

    Arguments
    ---------
    files : mapping
        The files of all processes.
    environ : mapping
        ``RANK`` and ``WORLD_SIZE``; without them, all files.

    Returns
    -------
    files : dict
    rank : int

    Example
    -------
    >>> files = {"a": Path("a"), "b": Path("b"), "c": Path("c")}
    >>> shard(files, {"RANK": "1", "WORLD_SIZE": "2"})[1]
    1
    >>> list(shard(files, {"RANK": "0", "WORLD_SIZE": "2"})[0])
    ['a', 'c']
    """
    rank = int(environ.get("RANK", 0))
    return dict(list(files.items())[rank :: processes(environ)]), rank


def processes(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes under torchrun; 1 without it.

    Example
    -------
    >>> processes({"WORLD_SIZE": "2"})
    2
    """
    return int(environ.get("WORLD_SIZE", 1))


def _files_of(top: Path, extensions: tuple[str, ...]) -> list[Path]:
    if top.is_file():
        return [top]
    if not top.is_dir():
        raise ConfigError(f"{top}: no such file or folder")
    return [
        file
        for file in sorted(top.rglob("*"))
        if file.name.lower().endswith(extensions)
        and file.is_file()
        # Hidden files are those of unfinished writing.
        and not any(part[0] == "." for part in file.relative_to(top).parts)
    ]
