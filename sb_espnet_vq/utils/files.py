"""Atomic writing of files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_file(path: str | Path, aside: str | Path | None = None) -> Iterator[Path]:
    """Yield a temporary path, renamed to `path` on success.

    If the block fails (a full disk, a kill), the old file remains; readers never see an
    incomplete file.

    Arguments
    ---------
    path : str | Path
        The file to write. Missing parent folders are created.
    aside : str | Path, optional
        Folder of the temporary file, on the same file system; created if missing. A
        process that is killed leaves the temporary file. Default: that of `path`.

    Yields
    ------
    Path
        The temporary path, with the same suffix as `path`.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_file(folder / "a.txt") as partial:
    ...     _ = partial.write_text("all of it")
    >>> (folder / "a.txt").read_text(), len(list(folder.iterdir()))
    ('all of it', 1)
    """
    path = Path(path)
    folder = path.parent if aside is None else Path(aside)
    for each in (path.parent, folder):
        each.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem}-", suffix=path.suffix, dir=folder
    )
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        # mkstemp creates a private file; the result gets the user's default mode.
        partial.chmod(0o666 & ~_umask())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder, renamed to `path` on success.

    Arguments
    ---------
    path : str | Path
        Must not exist, or be an empty folder. Missing parent folders are created.

    Yields
    ------
    Path

    Example
    -------
    >>> import tempfile
    >>> top = Path(tempfile.mkdtemp())
    >>> with new_folder(top / "a") as partial:
    ...     _ = (partial / "b.txt").write_text("all of it")
    ...     list(top.glob("a"))
    []
    >>> (top / "a" / "b.txt").read_text(), len(list(top.iterdir()))
    ('all of it', 1)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as aside:
        partial = Path(aside, "folder")
        partial.mkdir()
        yield partial
        os.replace(partial, path)


def write_text(path: str | Path, text: str, aside: str | Path | None = None) -> None:
    """Write `text` (UTF-8) to `path` atomically.

    Arguments
    ---------
    path : str | Path
        The file to write. Missing parent folders are created.
    text : str
        Its content.
    aside : str | Path, optional
        As in `atomic_file`.
    """
    with atomic_file(path, aside) as partial:
        partial.write_text(text, encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
