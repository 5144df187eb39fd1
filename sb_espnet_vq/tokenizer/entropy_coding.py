"""Entropy coding of codes, by the range coder of constriction.

The distribution of each codebook is that of the codes of a whole corpus, and is stored
once beside its files: a distribution that adapts to each file would need about
(V - 1) / 2 * log2 T bits to learn V probabilities from T frames, which is more than it
saves for utterances of some seconds.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError, TokenFileError
from sb_espnet_vq.tokenizer.tokens import Tokens, TokenSource
from sb_espnet_vq.utils.files import atomic_file

# The probabilities of the coder have 24 bits, and none is 0.
MOST_CODES = 2**16


def check(source: TokenSource) -> None:
    """Raise ConfigError if the codes of a model cannot be entropy coded."""
    _constriction()
    if max(source.codebook_sizes) > MOST_CODES:
        raise ConfigError(
            f"codebooks of up to {MOST_CODES} codes can be entropy coded, not of "
            f"{max(source.codebook_sizes)}: leave out --entropy_coding"
        )


class Distribution:
    """How often each code occurs, for each codebook of a model.

    Arguments
    ---------
    source : TokenSource
        The model.
    counts : list of list of int
        The number of times that each code of each codebook occurs.

    Attributes
    ----------
    name : str
        Hash of both: a file of codes names the distribution with which it was coded.
    """

    def __init__(self, source: TokenSource, counts: list[list[int]]):
        self.source, self.counts = source, counts
        record = {"source": source._asdict(), "counts": counts}
        self.text = json.dumps(record).encode()
        self.name = hashlib.sha256(self.text).hexdigest()[:16]

    @classmethod
    def of(cls, source: TokenSource, corpus: Iterable[Tokens]) -> Distribution:
        """Count the codes of a corpus."""
        sizes = source.codebook_sizes
        counts = [torch.zeros(codes, dtype=torch.int64) for codes in sizes]
        for tokens in corpus:
            for k, count in enumerate(counts):
                count += tokens.codes[:, k].bincount(minlength=len(count))
        return cls(source, [count.tolist() for count in counts])

    def save(self, folder: Path, aside: Path | None = None) -> None:
        """Write it beside the files of its codes, atomically."""
        with atomic_file(_file(folder, self.name), aside) as partial:
            partial.write_bytes(gzip.compress(self.text, mtime=0))

    @classmethod
    def load(cls, folder: Path, name: str) -> Distribution:
        """Read a distribution.

        Raises
        ------
        TokenFileError
            If it is missing or altered.
        """
        return _load(_file(folder, name), name)

    def encode(self, codes: Tensor) -> bytes:
        """Return codes (T, K) as bytes, codebook by codebook."""
        coder = _constriction().stream.queue.RangeEncoder()
        for k, model in self._models:
            coder.encode(codes[:, k].int().numpy(), model)
        return coder.get_compressed().astype("<u4").tobytes()

    def decode(self, data: bytes, frames: int) -> Tensor:
        """Return the codes (frames, K) int64 of what `encode` has returned."""
        import numpy

        words = numpy.frombuffer(data, "<u4").astype(numpy.uint32)
        coder = _constriction().stream.queue.RangeDecoder(words)
        codes = torch.zeros(frames, len(self.counts), dtype=torch.int64)
        if frames:
            for k, model in self._models:
                codes[:, k] = torch.from_numpy(coder.decode(model, frames)).long()
        return codes

    @functools.cached_property
    def _models(self) -> list[tuple[int, Any]]:
        import numpy

        categorical = _constriction().stream.model.Categorical
        # A codebook of one code needs no bits; one that is never used has no counts.
        return [
            (k, categorical(numpy.array(count, numpy.float64), perfect=False))
            for k, count in enumerate(self.counts)
            if len(count) > 1 and any(count)
        ]


def is_name(word: object) -> bool:
    """Return whether a word can be the name of a distribution.

    Example
    -------
    >>> is_name("0123456789abcdef"), is_name("../distribution")
    (True, False)
    """
    return isinstance(word, str) and bool(re.fullmatch("[0-9a-f]{16}", word))


def size(folder: Path, name: str) -> int:
    """Return the bytes of a saved distribution."""
    return _file(folder, name).stat().st_size


def _file(folder: Path, name: str) -> Path:
    return folder / f"distribution-{name}.json.gz"


@functools.lru_cache(maxsize=8)
def _load(path: Path, name: str) -> Distribution:
    try:
        text = gzip.decompress(path.read_bytes())
        record = json.loads(text)
        found = Distribution(TokenSource.of(record["source"], path), record["counts"])
    except (EOFError, KeyError, OSError, TypeError, ValueError) as error:
        raise TokenFileError(
            f"{path}: cannot be read ({error!r}), but the packed files beside it were "
            "coded with this distribution of codes"
        ) from error
    sizes = tuple(map(len, found.counts))
    if found.name != name or sizes != found.source.codebook_sizes:
        raise TokenFileError(f"{path}: altered after it was written")
    return found


def _constriction() -> Any:
    try:
        return import_module("constriction")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "entropy coding needs constriction, which is not installed: "
            "pip install 'sb_espnet_vq[formats]'"
        ) from error
