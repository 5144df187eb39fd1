"""Packed files of many utterances, entropy coded with one distribution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sb_espnet_vq.tokenizer import entropy_coding, packed_file
from sb_espnet_vq.tokenizer.entropy_coding import Distribution
from sb_espnet_vq.tokenizer.tokens import Tokens, TokenSource, Utterance

SUFFIX = packed_file.SUFFIX
BY_PROCESS = True


def check(source: TokenSource) -> None:
    """Raise ConfigError if the codes of a model cannot be entropy coded."""
    entropy_coding.check(source)


def plan(folder: Path, rank: int, keys: Sequence[str]) -> dict[Path, list[str]]:
    """Return one entry, since all files share the distribution."""
    return {folder: list(keys)}


def complete(path: Path, keys: Sequence[str]) -> bool:
    """Return whether each key has a file, all coded with one distribution."""
    files = [_file(path, key) for key in keys]
    if not all(file.exists() for file in files):
        return False
    return len({packed_file.coded_size(file)[2] for file in files}) == 1


def write(
    path: Path, source: TokenSource, utterances: Iterable[Utterance], aside: Path
) -> None:
    """Write the distribution of the codes, and a file for each utterance."""
    distribution = Distribution.of(source, (each.tokens for each in utterances))
    distribution.save(path, aside)
    for key, _, tokens in utterances:
        packed_file.write_coded(_file(path, key), tokens, distribution, aside)


def read(path: Path, key: str) -> Iterable[tuple[str, Tokens]]:
    """Yield the only utterance of a file."""
    yield key, packed_file.read(path)


def rates(
    folder: Path, source: TokenSource, keys: Iterable[str]
) -> tuple[float, float]:
    """Return the bits per second of codes of fixed width, and of the coded ones.

    The latter include the distribution.
    """
    sizes = [packed_file.coded_size(_file(folder, key)) for key in keys]
    coded, samples, names = zip(*sizes, strict=True)
    total = sum(coded) + sum(entropy_coding.size(folder, name) for name in set(names))
    bits = packed_file.bits_per_code(source.codebook_sizes)
    seconds = sum(samples) / source.sample_rate
    return source.sample_rate / source.hop * sum(bits), 8 * total / seconds


def _file(folder: Path, key: str) -> Path:
    return folder / f"{key}{SUFFIX}"
