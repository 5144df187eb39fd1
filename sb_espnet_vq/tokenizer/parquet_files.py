"""Tokens of many utterances in Parquet files, for pandas, datasets, Ray and others.

Columns: ``key``; ``codes``, a list of frames, each a list of K integers; ``samples``.
The model is in the metadata of the file, as JSON under ``source``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from sb_espnet_vq.errors import ConfigError, TokenFileError
from sb_espnet_vq.tokenizer.tokens import (
    Tokens,
    TokenSource,
    Utterance,
    check_codes,
    integers,
    smallest_type,
)
from sb_espnet_vq.utils.files import atomic_file

SUFFIX = ".parquet"
BY_PROCESS = True
UTTERANCES = 1000
_COLUMNS = ("key", "codes", "samples")
# A group of rows is held in memory: 2 MiB of int16, unless an utterance is longer.
_CODES_IN_MEMORY = 2**20


def check(source: TokenSource) -> None:
    """Raise ConfigError if pyarrow is not installed."""
    _pyarrow()


def plan(folder: Path, rank: int, keys: Sequence[str]) -> dict[Path, list[str]]:
    """Return the files of process `rank`, of 1000 utterances each.

    Raises
    ------
    ConfigError
        If there is a file more, of utterances that are not among these.
    """
    start = f"tokens.{rank + 1}."
    groups = [keys[n : n + UTTERANCES] for n in range(0, len(keys), UTTERANCES)]
    files = {
        folder / f"{start}{n:05}{SUFFIX}": list(group) for n, group in enumerate(groups)
    }
    more = sorted(set(folder.glob(f"{start}*{SUFFIX}")) - set(files))
    if more:
        raise ConfigError(
            f"{more[0]} has utterances that are not among the given audio files: give "
            "another folder to --out"
        )
    return files


def complete(path: Path, keys: Sequence[str]) -> bool:
    """Return whether a file holds these keys."""
    return path.is_file() and [*_names(path)] == list(keys)


def write(
    path: Path, source: TokenSource, utterances: Iterable[Utterance], aside: Path
) -> None:
    """Write a file."""
    parquet = _pyarrow()
    schema = _schema(source)
    with (
        atomic_file(path, aside) as partial,
        parquet.ParquetWriter(partial, schema, compression="zstd") as writer,
    ):
        for group in _groups(utterances):
            writer.write_table(_table(group, schema))


def read(path: Path, key: str) -> Iterator[tuple[str, Tokens]]:
    """Yield the keys and tokens of a file.

    Raises
    ------
    TokenFileError
        If the file is truncated, altered or foreign.
    ConfigError
        If pyarrow is not installed.
    """
    with _open(path) as file:
        metadata = file.schema_arrow.metadata or {}
        try:
            record = json.loads(metadata[b"source"])
        except (KeyError, ValueError) as error:
            raise TokenFileError(
                f"{path}: no tokens of sb_espnet_vq, since its metadata has no source"
            ) from error
        source = TokenSource.of(record, path)
        for group in range(file.num_row_groups):
            yield from _rows(file, group, source, path)


def _rows(
    file: Any, group: int, source: TokenSource, path: Path
) -> Iterator[tuple[str, Tokens]]:
    try:
        rows = file.read_row_group(group)
        for name, codes, samples in zip(*map(rows.column, _COLUMNS), strict=True):
            values = torch.tensor(codes.values.flatten().to_numpy()).long()
            found = values.view(-1, len(source.codebook_sizes))
            tokens = Tokens(found, samples.as_py(), source)
            yield name.as_py(), check_codes(tokens, f"{path}: {name.as_py()}")
    # Errors of pyarrow are among them.
    except (AttributeError, KeyError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, TokenFileError):
            raise
        raise TokenFileError(f"{path}: altered after it was written ({error})") from (
            error
        )


def _names(path: Path) -> Iterator[str]:
    with _open(path) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group, ["key"])["key"].to_pylist()


def _groups(utterances: Iterable[Utterance]) -> Iterator[list[Utterance]]:
    """Yield groups of utterances that are held in memory together."""
    group, size = [], 0
    for each in utterances:
        group.append(each)
        size += each.tokens.codes.numel()
        if size >= _CODES_IN_MEMORY:
            yield group
            group, size = [], 0
    yield group


def _table(group: list[Utterance], schema: Any) -> Any:
    """Return utterances as a table."""
    import numpy
    import pyarrow

    values = [integers(each.tokens) for each in group]
    kind = schema.field("codes").type.value_type
    flat = numpy.concatenate([each.reshape(-1) for each in values] or [[]])
    frames = pyarrow.FixedSizeListArray.from_arrays(
        pyarrow.array(flat, kind.value_type), kind.list_size
    )
    ends = numpy.cumsum([0, *map(len, values)])
    codes = pyarrow.ListArray.from_arrays(pyarrow.array(ends, pyarrow.int32()), frames)
    names = pyarrow.array([each.key for each in group], pyarrow.string())
    samples = pyarrow.array([each.tokens.samples for each in group], pyarrow.int64())
    return pyarrow.table([names, codes, samples], schema)


def _schema(source: TokenSource) -> Any:
    import pyarrow

    code = pyarrow.from_numpy_dtype(str(smallest_type(source)).partition(".")[2])
    frame = pyarrow.list_(code, len(source.codebook_sizes))
    kinds = (pyarrow.string(), pyarrow.list_(frame), pyarrow.int64())
    columns = list(zip(_COLUMNS, kinds, strict=True))
    return pyarrow.schema(columns, {"source": json.dumps(source._asdict())})


def _open(path: Path) -> Any:
    parquet = _pyarrow()
    try:
        return parquet.ParquetFile(path)
    # Errors of pyarrow are among them.
    except (OSError, ValueError) as error:
        raise TokenFileError(
            f"{path}: no Parquet file, or truncated or altered ({error})"
        ) from error


def _pyarrow() -> Any:
    try:
        return import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the format parquet needs pyarrow, which is not installed: "
            "pip install 'sb_espnet_vq[formats]'"
        ) from error
