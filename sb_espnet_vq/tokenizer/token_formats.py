"""The formats of `sbvq tokens`: a table of modules with the same functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from sb_espnet_vq.errors import TokenFileError
from sb_espnet_vq.tokenizer import (
    entropy_files,
    kaldi_files,
    lhotse_files,
    npz_file,
    packed_file,
    parquet_files,
)
from sb_espnet_vq.tokenizer.tokens import Tokens, TokenSource, Utterance


class TokenFormat(Protocol):
    """What a format of tokens consists of.

    Attributes
    ----------
    SUFFIX : str
        End of the names of the files that `read` takes.
    BY_PROCESS : bool
        Whether the files depend on the number of processes.
    """

    @property
    def SUFFIX(self) -> str:
        """End of the names of the files that `read` takes."""

    @property
    def BY_PROCESS(self) -> bool:
        """Whether the files depend on the number of processes."""

    def check(self, source: TokenSource) -> None:
        """Raise ConfigError if the format cannot hold tokens of this model."""

    def plan(
        self, folder: Path, rank: int, keys: Sequence[str]
    ) -> dict[Path, list[str]]:
        """Return the files of process `rank`, and the keys that each one holds."""

    def complete(self, path: Path, keys: Sequence[str]) -> bool:
        """Return whether a file of the plan holds its keys."""

    def write(
        self,
        path: Path,
        source: TokenSource,
        utterances: Iterable[Utterance],
        aside: Path,
    ) -> None:
        """Write a file of the plan, with temporary files in the folder `aside`.

        `utterances` may be iterated over several times.
        """

    def read(self, path: Path, key: str) -> Iterable[tuple[str, Tokens]]:
        """Yield keys and tokens; `key` is that of a file of one utterance."""


class FilePerUtterance:
    """A format in which each utterance has a file of its own.

    Arguments
    ---------
    module : module
        With ``SUFFIX``, ``write(path, tokens, aside)`` and ``read(path)``.

    Example
    -------
    >>> FilePerUtterance(npz_file).plan(Path("out"), 0, ["a", "b"])[Path("out/b.npz")]
    ['b']
    """

    BY_PROCESS = False

    def __init__(self, module: Any):
        self.module, self.SUFFIX = module, module.SUFFIX

    def check(self, source: TokenSource) -> None:
        """Accept every model."""

    def plan(
        self, folder: Path, rank: int, keys: Sequence[str]
    ) -> dict[Path, list[str]]:
        """Return a file for each key."""
        return {folder / f"{key}{self.SUFFIX}": [key] for key in keys}

    def complete(self, path: Path, keys: Sequence[str]) -> bool:
        """Return whether there is such a file."""
        return path.exists()

    def write(
        self,
        path: Path,
        source: TokenSource,
        utterances: Iterable[Utterance],
        aside: Path,
    ) -> None:
        """Write the only utterance."""
        for utterance in utterances:
            self.module.write(path, utterance.tokens, aside)

    def read(self, path: Path, key: str) -> Iterable[tuple[str, Tokens]]:
        """Yield the only utterance."""
        yield key, self.module.read(path)


ENTROPY_CODED = "packed, entropy coded"
FORMATS: dict[str, TokenFormat] = {
    "npz": FilePerUtterance(npz_file),
    "packed": FilePerUtterance(packed_file),
    ENTROPY_CODED: entropy_files,
    "kaldi": kaldi_files,
    "lhotse": lhotse_files,
    "parquet": parquet_files,
}
SUFFIXES = tuple(dict.fromkeys(form.SUFFIX for form in FORMATS.values()))


def read(path: Path, key: str) -> Iterable[tuple[str, Tokens]]:
    """Yield the keys and tokens of a file of any format.

    Arguments
    ---------
    path : Path
        Its name shows its format.
    key : str
        Of the utterance, if the file holds only one.

    Returns
    -------
    iterable of (str, Tokens)

    Raises
    ------
    TokenFileError
        If the name is that of no format, or the file is broken.
    """
    for form in FORMATS.values():
        if path.name.endswith(form.SUFFIX):
            return form.read(path, key)
    raise TokenFileError(f"{path}: not a file of tokens ({', '.join(SUFFIXES)})")
