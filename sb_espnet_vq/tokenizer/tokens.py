"""The tokens of an utterance, and what a file records about the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sb_espnet_vq.errors import TokenFileError


class TokenSource(NamedTuple):
    """The model that made tokens.

    kind : kind of model; model : hash of its configuration and weights; sample_rate :
    Hz; hop : samples per frame; codebook_sizes : codes in each codebook in use.
    """

    kind: str
    model: str
    sample_rate: int
    hop: int
    codebook_sizes: tuple[int, ...]

    @classmethod
    def of(cls, record: dict[str, Any], place: object) -> TokenSource:
        """Read a source from JSON; `place` is the file, for errors."""
        try:
            sizes = tuple(int(size) for size in record["codebook_sizes"])
            words = str(record["kind"]), str(record["model"])
            source = cls(*words, int(record["sample_rate"]), int(record["hop"]), sizes)
        except (KeyError, TypeError, ValueError) as error:
            raise TokenFileError(
                f"{place}: it does not describe the model of its tokens ({error!r})"
            ) from error
        if not sizes or min(sizes) < 1 or min(source.sample_rate, source.hop) < 1:
            raise TokenFileError(f"{place}: sizes below 1 in {record}")
        return source

    def refuse_other(self, other: TokenSource, place: object) -> None:
        """Raise TokenFileError unless tokens of `other` can be decoded by this model.

        Tokens may have fewer codebooks than the model.
        """
        used = len(other.codebook_sizes)
        if other == self._replace(codebook_sizes=self.codebook_sizes[:used]):
            return
        raise TokenFileError(
            f"{place}: tokens of another model: {other.kind} {other.model[:12]}, "
            f"codebooks {other.codebook_sizes}; this one is {self.kind} "
            f"{self.model[:12]}, codebooks {self.codebook_sizes}"
        )


class Tokens(NamedTuple):
    """The tokens of an utterance.

    codes : (T, K) int64, none missing; samples : samples of the audio; source : the
    model.
    """

    codes: Tensor
    samples: int
    source: TokenSource


class Utterance(NamedTuple):
    """The tokens of an audio file, and its key."""

    key: str
    audio: Path
    tokens: Tokens


def check_codes(tokens: Tokens, place: object) -> Tokens:
    """Return tokens whose codes fit their codebooks.

    Arguments
    ---------
    tokens : Tokens
    place : object
        The file, for errors.

    Returns
    -------
    Tokens

    Raises
    ------
    TokenFileError
        If the shape is wrong or a code is missing or out of range.
    """
    codes, sizes = tokens.codes, tokens.source.codebook_sizes
    if codes.dim() != 2 or codes.shape[1] != len(sizes):
        raise TokenFileError(
            f"{place}: codes must be (T, {len(sizes)}), got {tuple(codes.shape)}"
        )
    limits = codes.new_tensor(sizes)
    if bool(((codes < 0) | (codes >= limits)).any()):
        raise TokenFileError(
            f"{place}: codes must be at least 0 and below {sizes}; got "
            f"{int(codes.min())} to {int(codes.max())}"
        )
    return tokens


def integers(tokens: Tokens) -> Any:
    """Return the codes as an array of the smallest signed type that torch also has.

    Example
    -------
    >>> source = TokenSource("codec", "", 8000, 80, (1024,))
    >>> integers(Tokens(torch.zeros(2, 1).long(), 160, source)).dtype
    dtype('int16')
    """
    return tokens.codes.to(smallest_type(tokens.source)).numpy()


def smallest_type(source: TokenSource) -> torch.dtype:
    """Return int16, int32 or int64: the smallest that holds the codes of a model."""
    most = max(source.codebook_sizes) - 1
    types = (torch.int16, torch.int32, torch.int64)
    return next(each for each in types if most <= torch.iinfo(each).max)
