"""Encoding of many audio files: resumable, one utterance in memory at a time."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from sb_espnet_vq.errors import CorpusError, TokenFileError
from sb_espnet_vq.tokenizer import packed_file
from sb_espnet_vq.tokenizer.token_formats import TokenFormat
from sb_espnet_vq.tokenizer.tokens import (
    Tokens,
    TokenSource,
    Utterance,
    check_codes,
)


class Folder(NamedTuple):
    """Where this process writes.

    path : the folder of the tokens; rank : of this process; processes : their number.
    """

    path: Path
    rank: int
    processes: int

    @property
    def parts(self) -> Path:
        """Utterances that wait for a file of several, and files being written."""
        return self.path / f".parts.{self.rank + 1}"

    def clean(self, keys: Collection[str] = ()) -> None:
        """Remove what killed processes left behind, except the parts of some keys."""
        for old in self.path.glob(".parts.*"):
            if self.rank == 0 and int(old.suffix[1:]) > self.processes:
                shutil.rmtree(old)
        wanted = {f"{key}{packed_file.SUFFIX}" for key in keys}
        # Also files that were being written.
        for file in self.parts.glob("*"):
            if file.name not in wanted:
                file.unlink()

    def close(self) -> None:
        """Remove the parts if none is left: some may wait for one that is bad."""
        with contextlib.suppress(OSError):
            self.parts.rmdir()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Add to an error of the file system what to do about it.

    Example
    -------
    >>> with writing(Path("tokens")):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: tokens cannot be written...
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}: {folder} cannot be written. The files that "
            "are in it are complete: run the same command again when it can be written",
        ) from error


class _Parts:
    """Utterances read from their parts, whenever iterated over."""

    def __init__(self, folder: Path, files: Mapping[str, Path]):
        self.folder, self.files = folder, files

    def path(self, key: str) -> Path:
        return self.folder / f"{key}{packed_file.SUFFIX}"

    def __iter__(self) -> Iterator[Utterance]:
        for key, audio in self.files.items():
            yield Utterance(key, audio, packed_file.read(self.path(key)))


def encode_files(
    form: TokenFormat,
    folder: Folder,
    files: Mapping[str, Path],
    source: TokenSource,
    encode: Callable[[Path], Tokens],
    progress: Callable[[], object],
) -> dict[Path, Exception]:
    """Write the tokens of audio files; files that are complete are left alone.

    Arguments
    ---------
    form : TokenFormat
    folder : Folder
    files : mapping
        The audio files of this process by key.
    source : TokenSource
        The model.
    encode : callable
        Returns the tokens of an audio file.
    progress : callable
        Called after each audio file.

    Returns
    -------
    dict
        The error of each audio file that has none. Files of tokens that would hold one
        are not written.
    """
    bad: dict[Path, Exception] = {}
    if not files:
        # There are more processes than files.
        folder.close()
        return bad
    for path, keys in form.plan(folder.path, folder.rank, list(files)).items():
        parts = _Parts(folder.parts, {key: files[key] for key in keys})
        complete, before = form.complete(path, keys), len(bad)
        for key, audio in parts.files.items():
            try:
                if not complete and not parts.path(key).exists():
                    tokens = check_codes(encode(audio), audio)
                    packed_file.write(parts.path(key), tokens)
            except (CorpusError, TokenFileError) as error:
                bad[audio] = error
            progress()
        if len(bad) > before:
            continue
        if not complete:
            form.write(path, source, parts, folder.parts)
        for key in keys:
            parts.path(key).unlink(missing_ok=True)
    folder.close()
    return bad
