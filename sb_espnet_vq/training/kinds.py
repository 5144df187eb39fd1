"""Types and ranges of hyperparameter values, with descriptions for error messages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Kind(Protocol):
    """A set of valid values. ``str(kind)`` completes the sentence "it must be ..."."""

    def accepts(self, value: Any) -> bool:
        """Return whether a value read from YAML is of this kind."""


@dataclass(frozen=True)
class Number:
    """A finite number in a range; bools are not numbers.

    Arguments
    ---------
    least, most : float
        Bounds, inclusive.
    above, below : float
        Bounds, exclusive.
    whole : bool
        Whether only integers are valid.

    Example
    -------
    >>> print(Number(above=0))
    a number above 0
    >>> [Number(above=0).accepts(value) for value in (0.1, 0, True, "1")]
    [True, False, False, False]
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    whole: bool = False

    def accepts(self, value: Any) -> bool:
        """Return whether a value is a number in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.whole and not isinstance(value, int):
            return False
        inside = self.least <= value <= self.most and self.above < value < self.below
        return inside and math.isfinite(value)

    def __str__(self) -> str:
        noun = "a whole number" if self.whole else "a number"
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"{noun} from {self.least} to {self.most}"
        bounds = {
            "of at least": self.least,
            "above": self.above,
            "at most": self.most,
            "below": self.below,
        }
        limits = [f"{word} {x}" for word, x in bounds.items() if math.isfinite(x)]
        return " ".join([noun, " and ".join(limits)]).strip()


def whole(least: int | float = -math.inf, most: int | float = math.inf) -> Number:
    """Return the kind of whole numbers from `least` to `most`.

    Arguments
    ---------
    least, most : int
        Bounds, inclusive.

    Returns
    -------
    Number
    """
    return Number(least=least, most=most, whole=True)


@dataclass(frozen=True)
class Several:
    """A list of values of one kind.

    Arguments
    ---------
    each : Kind
        Kind of every value.
    count : int
        Required number of values; 0 for one or more.

    Example
    -------
    >>> print(Several(whole(1), 2))
    2 values, each a whole number of at least 1
    """

    each: Kind
    count: int = 0

    def accepts(self, value: Any) -> bool:
        """Return whether a value is a list of valid values."""
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            return False
        wrong_count = self.count and len(value) != self.count
        return not wrong_count and all(self.each.accepts(item) for item in value)

    def __str__(self) -> str:
        return f"{self.count or 'a list of'} values, each {self.each}"


@dataclass(frozen=True)
class Shares:
    """A list of `count` fractions above 0 that add up to less than 1.

    Example
    -------
    >>> [Shares(2).accepts(value) for value in ([0.1, 0.2], [0.5, 0.5], 0.1)]
    [True, False, False]
    """

    count: int

    def accepts(self, value: Any) -> bool:
        """Return whether a value is a list of such fractions."""
        share = Number(above=0, below=1)
        return Several(share, self.count).accepts(value) and sum(value) < 1

    def __str__(self) -> str:
        return f"{self.count} numbers above 0 that add up to less than 1"


@dataclass(frozen=True)
class OneOf:
    """One of the given words."""

    words: tuple[str, ...]

    def accepts(self, value: Any) -> bool:
        """Return whether a value is one of them."""
        return isinstance(value, str) and value in self.words

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True)
class OfType:
    """Any value of a Python type.

    Arguments
    ---------
    type : type
        A type or a union of types.
    words : str
        Description for users.
    """

    type: Any
    words: str

    def accepts(self, value: Any) -> bool:
        """Return whether a value has the type."""
        return isinstance(value, self.type)

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class OrNull:
    """Null, or a value of another kind."""

    kind: Kind

    def accepts(self, value: Any) -> bool:
        """Return whether a value is null or of the other kind."""
        return value is None or self.kind.accepts(value)

    def __str__(self) -> str:
        return f"{self.kind}, or null"


TEXT = OfType(str, "a text")
FLAG = OfType(bool, "True or False")
MAPPING = OfType(Mapping, "a mapping, such as {key: value}")
