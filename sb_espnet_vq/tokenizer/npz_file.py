"""Tokens of one utterance in an .npz file, for numpy."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import torch

from sb_espnet_vq.errors import TokenFileError
from sb_espnet_vq.tokenizer.tokens import Tokens, TokenSource, check_codes
from sb_espnet_vq.utils.files import atomic_file

SUFFIX = ".npz"


def write(path: Path, tokens: Tokens, aside: Path | None = None) -> None:
    """Write ``codes`` (T, K) int64, ``samples`` and ``source`` (JSON), atomically.

    The temporary file is in the folder ``aside``, by default beside it.

    Raises
    ------
    TokenFileError
        If a code is missing or out of range.
    """
    import numpy

    check_codes(tokens, path)
    source = json.dumps(tokens.source._asdict())
    with atomic_file(path, aside) as partial, partial.open("wb") as file:
        numpy.savez(
            file, codes=tokens.codes.numpy(), samples=tokens.samples, source=source
        )


def read(path: Path) -> Tokens:
    """Read what `write` has written; nothing is unpickled.

    Raises
    ------
    TokenFileError
        If the file is truncated, altered or foreign.
    """
    import numpy

    try:
        with numpy.load(path, allow_pickle=False) as arrays:
            codes, samples = arrays["codes"], int(arrays["samples"])
            record = json.loads(str(arrays["source"]))
    except (EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise TokenFileError(
            f"{path}: no tokens, or truncated or altered ({error})"
        ) from error
    if codes.dtype.kind not in "iu":
        raise TokenFileError(f"{path}: codes must be integers, got {codes.dtype}")
    source = TokenSource.of(record, path)
    return check_codes(Tokens(torch.from_numpy(codes).long(), samples, source), path)
