"""Tokens of one utterance in ceil(log2 V) bits per code.

A file consists of ``SBVQ``, the version (uint16), the size of the header (uint32), the
header (JSON: the source, the number of frames and of samples), the codes and a CRC-32
of everything before it. Numbers are little-endian. The codes are a string of bits, the
most significant bit of each code first, frame by frame and codebook by codebook, padded
with zeros to whole bytes.

In version 2 the codes are entropy coded. The header then has, in place of the source,
the name of the distribution of the codes (`entropy_coding`), the number of bytes of the
codes, and the CRC-32 that they have in version 1.
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
from sb_espnet_vq.tokenizer.entropy_coding import Distribution, is_name
from sb_espnet_vq.tokenizer.tokens import Tokens, TokenSource, check_codes
from sb_espnet_vq.utils.files import atomic_file

SUFFIX = ".sbvq"
FIXED, ENTROPY_CODED = 1, 2
_MAGIC, _START, _END = b"SBVQ", struct.Struct("<4sHI"), struct.Struct("<I")


def bits_per_code(sizes: tuple[int, ...]) -> list[int]:
    """Return ceil(log2 V) for each codebook.

    Example
    -------
    >>> bits_per_code((1024, 5, 1))
    [10, 3, 0]
    """
    return [(size - 1).bit_length() for size in sizes]


def write(path: Path, tokens: Tokens, aside: Path | None = None) -> None:
    """Write tokens atomically.

    The temporary file is in the folder ``aside``, by default beside it.

    Raises
    ------
    TokenFileError
        If a code is missing or out of range.
    """
    check_codes(tokens, path)
    header = tokens.source._asdict() | _counts(tokens)
    _write(path, FIXED, header, fixed_width(tokens), aside)


def write_coded(
    path: Path, tokens: Tokens, distribution: Distribution, aside: Path | None = None
) -> None:
    """Write tokens atomically, entropy coded.

    Raises
    ------
    TokenFileError
        If a code is missing or out of range.
    """
    check_codes(tokens, path)
    body = distribution.encode(tokens.codes)
    header = _counts(tokens) | {
        "distribution": distribution.name,
        "bytes": len(body),
        "codes": zlib.crc32(fixed_width(tokens)),
    }
    _write(path, ENTROPY_CODED, header, body, aside)


def read(path: Path) -> Tokens:
    """Read what `write` or `write_coded` has written.

    Raises
    ------
    TokenFileError
        If the file is truncated, altered, foreign or newer, or the distribution of its
        codes is missing.
    ConfigError
        If the codes are entropy coded and constriction is not installed.
    """
    version, record, body = _read(path)
    frames, samples = record["frames"], record["samples"]
    if version == FIXED:
        source = TokenSource.of(record, path)
        codes = _unpack(body, frames, bits_per_code(source.codebook_sizes))
        return check_codes(Tokens(codes, samples, source), path)
    distribution = Distribution.load(path.parent, record["distribution"])
    tokens = Tokens(distribution.decode(body, frames), samples, distribution.source)
    if zlib.crc32(fixed_width(check_codes(tokens, path))) != record["codes"]:
        raise TokenFileError(
            f"{path}: its codes are not those that were written: constriction decodes "
            "them differently"
        )
    return tokens


def coded_size(path: Path) -> tuple[int, int, str]:
    """Return the bytes of codes, the samples and the name of their distribution."""
    _, record, body = _read(path)
    return len(body), record["samples"], record["distribution"]


def fixed_width(tokens: Tokens) -> bytes:
    """Return codes in ceil(log2 V) bits each, padded to whole bytes."""
    return _pack(tokens.codes, bits_per_code(tokens.source.codebook_sizes))


def _counts(tokens: Tokens) -> dict[str, Any]:
    return {"frames": len(tokens.codes), "samples": tokens.samples}


def _write(
    path: Path, version: int, record: dict[str, Any], body: bytes, aside: Path | None
) -> None:
    header = json.dumps(record).encode()
    data = _START.pack(_MAGIC, version, len(header)) + header + body
    with atomic_file(path, aside) as partial:
        partial.write_bytes(data + _END.pack(zlib.crc32(data)))


def _read(path: Path) -> tuple[int, dict[str, Any], bytes]:
    """Return the version, the header and the codes of a file that is whole."""
    data = path.read_bytes()
    if data[: len(_MAGIC)] != _MAGIC:
        raise TokenFileError(f"{path}: not a packed file of tokens of sb_espnet_vq")
    if len(data) < _START.size:
        raise TokenFileError(f"{path}: truncated within its first {_START.size} bytes")
    _, version, length = _START.unpack_from(data)
    if not FIXED <= version <= ENTROPY_CODED:
        raise TokenFileError(
            f"{path}: has version {version} of the packed format, and this package "
            f"reads up to {ENTROPY_CODED}; install a newer version"
        )
    start = _START.size + length
    if len(data) < start + _END.size:
        raise TokenFileError(f"{path}: truncated within its header")
    record = _header(data[_START.size : start], version, path)
    expected = start + _body_size(record, version, path) + _END.size
    if len(data) < expected:
        raise TokenFileError(
            f"{path}: truncated, {len(data)} of {expected} bytes are left"
        )
    (crc,) = _END.unpack(data[-_END.size :])
    if len(data) > expected or crc != zlib.crc32(data[: -_END.size]):
        raise TokenFileError(f"{path}: altered after it was written (checksum)")
    return version, record, data[start : -_END.size]


def _body_size(record: dict[str, Any], version: int, path: Path) -> int:
    if version == ENTROPY_CODED:
        return record["bytes"]
    bits = bits_per_code(TokenSource.of(record, path).codebook_sizes)
    return -(-record["frames"] * sum(bits) // 8)


def _header(text: bytes, version: int, path: Path) -> dict[str, Any]:
    names = ["frames", "samples"]
    if version == ENTROPY_CODED:
        names += ["bytes", "codes"]
    try:
        record = json.loads(text)
        counts = [record[name] for name in names]
    except (KeyError, TypeError, ValueError) as error:
        raise TokenFileError(f"{path}: altered, its header is unreadable") from error
    if version == ENTROPY_CODED and not is_name(record.get("distribution")):
        raise TokenFileError(f"{path}: altered, its header names no distribution")
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
