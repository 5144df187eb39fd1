"""Tokens as a CutSet of lhotse: each cut has its recording, and its codes as an array.

``cut.codes.load()`` returns integers (T, K); ``cut.load_codes()`` those in the time of
the cut, without a last frame of which the audio fills less than half. They are in .npy
files in the folder ``codes``, which lhotse reads without other packages;
``cut.code_samples`` is the number of samples at the sample rate of the model.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from sb_espnet_vq.errors import ConfigError, TokenFileError
from sb_espnet_vq.tokenizer.output_folder import read_record
from sb_espnet_vq.tokenizer.tokens import (
    Tokens,
    TokenSource,
    Utterance,
    check_codes,
    integers,
)
from sb_espnet_vq.utils.files import atomic_file

SUFFIX = ".jsonl.gz"
BY_PROCESS = True
_STORAGE = "numpy_files"


def check(source: TokenSource) -> None:
    """Raise ConfigError if lhotse is not installed."""
    _lhotse()


def plan(folder: Path, rank: int, keys: Sequence[str]) -> dict[Path, list[str]]:
    """Return the manifest of process `rank`."""
    return {folder / f"cuts.{rank + 1}{SUFFIX}": list(keys)}


def complete(path: Path, keys: Sequence[str]) -> bool:
    """Return whether a manifest lists these keys."""
    return path.is_file() and {cut["id"] for cut in _cuts(path)} == set(keys)


def write(
    path: Path, source: TokenSource, utterances: Iterable[Utterance], aside: Path
) -> None:
    """Write a file of codes for each utterance and, last, the manifest."""
    # The manifest is the same whenever and under whatever name it is written.
    with (
        atomic_file(path, aside) as partial,
        partial.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file,
    ):
        for utterance in utterances:
            cut = _cut(utterance, path.parent / "codes", aside)
            file.write(f"{json.dumps(cut.to_dict())}\n".encode())


def read(path: Path, key: str) -> Iterable[tuple[str, Tokens]]:
    """Yield the keys and tokens of a manifest, beside which is the record of its model.

    lhotse is not needed. Other kinds of storage than `write` uses are not read, since
    some run commands.

    Raises
    ------
    TokenFileError
        If the manifest or an array is broken or of another kind.
    """
    source = TokenSource.of(read_record(path.parent), path)
    for record in _cuts(path):
        try:
            name, custom = str(record["id"]), record["custom"]
            samples, array = int(custom["code_samples"]), custom["codes"]["array"]
            if array["storage_type"] != _STORAGE:
                raise ValueError(f"storage {array['storage_type']}, not {_STORAGE}")
            codes = _load(Path(array["storage_path"], array["storage_key"]))
        except (EOFError, KeyError, OSError, TypeError, ValueError) as error:
            raise TokenFileError(
                f"{path}: the codes of {record.get('id')!r} cannot be read ({error!r})"
            ) from error
        yield name, check_codes(Tokens(codes, samples, source), f"{path}: {name}")


def _load(file: Path) -> torch.Tensor:
    import numpy

    array = numpy.load(file, allow_pickle=False)
    if array.dtype.kind not in "iu":
        raise ValueError(f"codes must be integers, got {array.dtype}")
    return torch.from_numpy(array.astype("int64"))


def _cut(utterance: Utterance, folder: Path, aside: Path) -> Any:
    import numpy

    lhotse = _lhotse()
    key, audio, tokens = utterance
    values, source = integers(tokens), tokens.source
    with atomic_file(folder / f"{key}.npy", aside) as partial:
        numpy.save(partial, values)
    array = lhotse.array.Array(_STORAGE, str(folder), f"{key}.npy", [*values.shape])
    shift = source.hop / source.sample_rate
    cut = lhotse.Recording.from_file(audio, recording_id=key).to_cut()
    cut.id = key
    cut.codes = lhotse.array.TemporalArray(array, 0, shift, cut.start)
    cut.code_samples = tokens.samples
    return cut


def _cuts(path: Path) -> Iterable[dict[str, Any]]:
    empty = True
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                empty = False
                yield dict(json.loads(line))
    except (EOFError, OSError, TypeError, ValueError) as error:
        raise TokenFileError(
            f"{path}: no manifest of cuts, or truncated or altered ({error})"
        ) from error
    if empty:
        raise TokenFileError(f"{path}: truncated, it has no cuts")


def _lhotse() -> Any:
    try:
        import lhotse
    except ModuleNotFoundError as error:
        if error.name != "lhotse":
            raise
        raise ConfigError(
            "the format lhotse needs lhotse, which is not installed: "
            "pip install 'sb_espnet_vq[formats]'"
        ) from error
    return lhotse
