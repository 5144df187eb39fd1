"""Tokens of many utterances as Kaldi archives, as ESPnet's speech language models read.

An utterance is a vector of int32, frame by frame, in which codebook k is offset by k
times the codebook size: what ESPnet's ``dump_codec.py`` writes for a codec. Like it,
the archive leaves out a last frame that the audio does not fill.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError, TokenFileError
from sb_espnet_vq.tokenizer.output_folder import read_record
from sb_espnet_vq.tokenizer.tokens import (
    Tokens,
    TokenSource,
    Utterance,
    check_codes,
)
from sb_espnet_vq.utils.files import atomic_file, write_text

SUFFIX = ".scp"
BY_PROCESS = True
_INT32 = b"\0B\4"
# Each number is preceded by its size in bytes.
_ITEM = [("size", "i1"), ("number", "<i4")]
TOKEN_LIST = "token_lists/codec_token_list"


def vocabulary(source: TokenSource) -> list[str]:
    """Return the tokens in the order of their numbers, as ESPnet names them.

    Raises
    ------
    ConfigError
        If the codebooks differ in size, or have too many codes for int32.

    Example
    -------
    >>> vocabulary(TokenSource("codec", "", 8000, 80, (2, 2)))[1:3]
    ['<codec_layer0_code1>', '<codec_layer1_code0>']
    """
    size = _size(source)
    layers = range(len(source.codebook_sizes))
    return [f"<codec_layer{k}_code{n}>" for k in layers for n in range(size)]


def flatten(tokens: Tokens) -> Tensor:
    """Return the numbers of an utterance, (T * K,) int32.

    Example
    -------
    >>> source = TokenSource("codec", "", 8000, 80, (4, 4))
    >>> flatten(Tokens(torch.tensor([[1, 2], [3, 0]]), 160, source))
    tensor([1, 6, 3, 4], dtype=torch.int32)
    """
    size, source = _size(tokens.source), tokens.source
    whole = tokens.codes[: tokens.samples // source.hop]
    offsets = size * torch.arange(len(source.codebook_sizes))
    return (whole + offsets).flatten().int()


def check(source: TokenSource) -> None:
    """Raise ConfigError if the format cannot hold the codes of a model."""
    _size(source)


def plan(folder: Path, rank: int, keys: Sequence[str]) -> dict[Path, list[str]]:
    """Return the archive of process `rank`."""
    return {folder / f"codec.{rank + 1}.ark": list(keys)}


def complete(ark: Path, keys: Sequence[str]) -> bool:
    """Return whether the index of an archive lists these keys."""
    scp = ark.with_suffix(SUFFIX)
    if not scp.is_file():
        return False
    lines = scp.read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines} == set(keys)


def write(
    ark: Path, source: TokenSource, utterances: Iterable[Utterance], aside: Path
) -> None:
    """Write the names of the tokens, an archive and, last, its index.

    Arguments
    ---------
    ark : Path
        The archive; the index has the suffix .scp.
    source : TokenSource
        The model.
    utterances : iterable of Utterance
        Keys without whitespace, and their tokens.
    aside : Path
        Folder of the temporary files.
    """
    import numpy

    words = "".join(f"{word}\n" for word in vocabulary(source))
    write_text(ark.parent / TOKEN_LIST, words, aside)
    lines = []
    with atomic_file(ark, aside) as partial, partial.open("wb") as file:
        for key, _, tokens in utterances:
            file.write(f"{key} ".encode())
            lines.append(f"{key} {ark}:{file.tell()}\n")
            numbers = flatten(tokens).numpy()
            items = numpy.empty(len(numbers), _ITEM)
            items["size"], items["number"] = 4, numbers
            file.write(_INT32 + struct.pack("<i", len(numbers)) + items.tobytes())
    write_text(ark.with_suffix(SUFFIX), "".join(lines), aside)


def read(scp: Path, key: str) -> Iterable[tuple[str, Tokens]]:
    """Yield the keys and tokens of an index, beside which is the record of its model.

    Raises
    ------
    TokenFileError
        If a line or an archive is broken.
    """
    source = TokenSource.of(read_record(scp.parent), scp)
    for line in scp.read_text(encoding="utf-8").splitlines():
        name, _, place = line.partition(" ")
        ark, _, offset = place.rpartition(":")
        try:
            with open(ark, "rb") as file:
                file.seek(int(offset))
                numbers = _read_vector(file)
            codes = numbers.view(-1, len(source.codebook_sizes))
            codes -= _size(source) * torch.arange(codes.shape[1])
        except (OSError, ValueError, RuntimeError, struct.error) as error:
            raise TokenFileError(
                f"{scp}: the vector of {name!r} cannot be read from {place!r} ({error})"
            ) from error
        tokens = Tokens(codes, len(codes) * source.hop, source)
        yield name, check_codes(tokens, f"{scp}: {name}")


def _read_vector(file) -> Tensor:
    import numpy

    start = file.read(len(_INT32) + 4)
    if start[: len(_INT32)] != _INT32:
        raise ValueError("no vector of int32")
    (count,) = struct.unpack("<i", start[len(_INT32) :])
    data = file.read(5 * count)
    if len(data) != 5 * count:
        raise ValueError("truncated")
    items = numpy.frombuffer(data, _ITEM)
    if (items["size"] != 4).any():
        raise ValueError("altered")
    return torch.from_numpy(items["number"].astype("int64"))


def _size(source: TokenSource) -> int:
    size = source.codebook_sizes[0]
    if set(source.codebook_sizes) != {size}:
        raise ConfigError(
            f"ESPnet's format needs codebooks of equal size, not "
            f"{source.codebook_sizes}: it offsets codebook k by k times the size"
        )
    if size * len(source.codebook_sizes) > 2**31:
        raise ConfigError(
            f"ESPnet's format holds 2**31 tokens, but {len(source.codebook_sizes)} "
            f"codebooks of {size} codes have more"
        )
    return size
