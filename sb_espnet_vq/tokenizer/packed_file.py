"""Tokens of one utterance in ceil(log2 V) bits per code.

A file consists of ``SBVQ``, the version (uint16), the size of the header (uint32), the
header (JSON: the source, the number of frames and of samples), the codes and a CRC-32
of everything before it. Numbers are little-endian. The codes are a string of bits, the
most significant bit of each code first, frame by frame and codebook by codebook, padded
with zeros to whole bytes.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.errors import TokenFileError
from sb_espnet_vq.tokenizer.tokens import Tokens, TokenSource, check
from sb_espnet_vq.utils.files import atomic_file

SUFFIX = ".sbvq"
VERSION = 1
_MAGIC, _START, _END = b"SBVQ", struct.Struct("<4sHI"), struct.Struct("<I")


def bits_per_code(sizes: tuple[int, ...]) -> list[int]:
    """Return ceil(log2 V) for each codebook.

    Example
    -------
    >>> bits_per_code((1024, 5, 1))
    [10, 3, 0]
    """
    return [(size - 1).bit_length() for size in sizes]


def write(path: Path, tokens: Tokens) -> None:
    """Write tokens atomically.

    Raises
    ------
    TokenFileError
        If a code is missing or out of range.
    """
    check(tokens, path)
    counts = {"frames": len(tokens.codes), "samples": tokens.samples}
    header = json.dumps(tokens.source._asdict() | counts).encode()
    body = _pack(tokens.codes, bits_per_code(tokens.source.codebook_sizes))
    data = _START.pack(_MAGIC, VERSION, len(header)) + header + body
    with atomic_file(path) as partial:
        partial.write_bytes(data + _END.pack(zlib.crc32(data)))


def read(path: Path) -> Tokens:
    """Read what `write` has written.

    Raises
    ------
    TokenFileError
        If the file is truncated, altered, foreign or newer.
    """
    data = path.read_bytes()
    if data[: len(_MAGIC)] != _MAGIC:
        raise TokenFileError(f"{path}: not a packed file of tokens of sb_espnet_vq")
    if len(data) < _START.size:
        raise TokenFileError(f"{path}: truncated within its first {_START.size} bytes")
    _, version, size = _START.unpack_from(data)
    if version > VERSION:
        raise TokenFileError(
            f"{path}: has version {version} of the packed format, and this package "
            f"reads up to {VERSION}; install a newer version"
        )
    start = _START.size + size
    if len(data) < start + _END.size:
        raise TokenFileError(f"{path}: truncated within its header")
    record = _header(data[_START.size : start], path)
    source = TokenSource.of(record, path)
    bits = bits_per_code(source.codebook_sizes)
    expected = start + -(-record["frames"] * sum(bits) // 8) + _END.size
    if len(data) < expected:
        raise TokenFileError(
            f"{path}: truncated, {len(data)} of {expected} bytes are left"
        )
    (crc,) = _END.unpack(data[-_END.size :])
    if len(data) > expected or crc != zlib.crc32(data[: -_END.size]):
        raise TokenFileError(f"{path}: altered after it was written (checksum)")
    codes = _unpack(data[start : -_END.size], record["frames"], bits)
    return check(Tokens(codes, record["samples"], source), path)


def _header(text: bytes, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(text)
        counts = [record["frames"], record["samples"]]
    except (KeyError, TypeError, ValueError) as error:
        raise TokenFileError(f"{path}: altered, its header is unreadable") from error
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise TokenFileError(f"{path}: altered, its header has counts {counts}")
    return record


def _pack(codes: Tensor, bits: list[int]) -> bytes:
    import numpy

    column, shift = _positions(bits)
    return numpy.packbits((codes[:, column] >> shift & 1).bool().numpy()).tobytes()


def _unpack(data: bytes, frames: int, bits: list[int]) -> Tensor:
    import numpy

    column, shift = _positions(bits)
    flat = numpy.unpackbits(numpy.frombuffer(data, numpy.uint8))
    rows = torch.from_numpy(flat[: frames * len(column)].copy()).long()
    codes = torch.zeros(frames, len(bits), dtype=torch.int64)
    return codes.index_add_(1, column, rows.view(frames, len(column)) << shift)


def _positions(bits: list[int]) -> tuple[Tensor, Tensor]:
    """Return, for each bit of a frame, its codebook and its place in the code."""
    columns = [k for k, count in enumerate(bits) for _ in range(count)]
    shifts = [place for count in bits for place in reversed(range(count))]
    return torch.tensor(columns).long(), torch.tensor(shifts).long()
