"""A folder of results that a killed process continues, of one model and format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sb_espnet_vq.errors import ConfigError, TokenFileError
from sb_espnet_vq.tokenizer.tokens import TokenSource
from sb_espnet_vq.utils.files import write_text

RECORD = "tokens.json"


def open_folder(folder: Path, source: TokenSource, aside: Path, **more: object) -> None:
    """Create a folder, or continue in one of the same model and format.

    Arguments
    ---------
    folder : Path
        Gets the record tokens.json.
    source : TokenSource
        The model.
    aside : Path
        Folder of the temporary file.
    **more
        What else all results must have in common: their format, ...

    Raises
    ------
    ConfigError
        If the folder has results of another model or format.
    """
    file = folder / RECORD
    # As read back from JSON: tuples are lists.
    record = json.loads(json.dumps(more | source._asdict()))
    if file.is_file():
        before = read_record(folder)
        other = [key for key in record if before.get(key) != record[key]]
        if other:
            key = other[0]
            raise ConfigError(
                f"{folder} has results with {key} {before.get(key)!r}, not "
                f"{record[key]!r}: give another folder to --out"
            )
        return
    write_text(file, json.dumps(record, indent=1) + "\n", aside)


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a folder.

    Raises
    ------
    TokenFileError
        If there is none, or it is unreadable.
    """
    file = folder / RECORD
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise TokenFileError(
            f"{file}: unreadable, but it describes the tokens beside it ({error})"
        ) from error
