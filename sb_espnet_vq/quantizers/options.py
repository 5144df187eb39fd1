"""Validation of the constructor options of quantizers."""

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sb_espnet_vq.errors import ConfigError


def positive_int(name: str, value: int) -> int:
    """Return ``value`` as an int if it is an integer of at least 1.

    Raises
    ------
    ConfigError
        If it is not.

    Example
    -------
    >>> positive_int("dim", 8)
    8
    """
    return integer_from(1, name, value)


def integer_from(least: int, name: str, value: int) -> int:
    """Return ``value`` as an int if it is an integer of at least ``least``.

    Raises
    ------
    ConfigError
        If it is not.

    Example
    -------
    >>> integer_from(0, "step", 0)
    0
    """
    # NumPy's integers count as well.
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:
        raise ConfigError(
            f"{name} must be an integer of at least {least}, got {value!r}"
        )
    return int(value)


def in_range(name: str, value: float, low: float, high: float) -> float:
    """Return ``value`` if it is a finite number in [low, high].

    Raises
    ------
    ConfigError
        If it is not.

    Example
    -------
    >>> in_range("decay", 0.99, 0, 1)
    0.99
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high or math.isinf(value):
        raise ConfigError(
            f"{name} must be a number in [{low:g}, {high:g}], got {value!r}"
        )
    return value


def true_or_false(name: str, value: bool) -> bool:
    """Return ``value`` if it is a bool; the string "false" would be truthy.

    Raises
    ------
    ConfigError
        If it is not.

    Example
    -------
    >>> true_or_false("kmeans_init", True)
    True
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {value!r}")
    return value


def one_of(name: str, value: str, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of the choices.

    Raises
    ------
    ConfigError
        If it is not.

    Example
    -------
    >>> one_of("metric", "cosine", ["euclidean", "cosine"])
    'cosine'
    """
    known = list(choices)
    if value not in known:
        raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return value


def plain(value: Any) -> Any:
    """Return a copy in which every mapping is a dict and every sequence a list.

    Containers of OmegaConf and Hydra are neither dict nor list. Tuples stay tuples;
    other values are returned unchanged.

    Example
    -------
    >>> from types import MappingProxyType
    >>> plain(MappingProxyType({"ratios": (4, 2), "name": "vq"}))
    {'ratios': (4, 2), 'name': 'vq'}
    """
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        items = [plain(each) for each in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value


def options_of(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a mapping of options as a dict of plain values; None becomes {}.

    Raises
    ------
    ConfigError
        If it is not a mapping.

    Example
    -------
    >>> options_of("quantizer_conf", None)
    {}
    """
    if not isinstance(value, Mapping | None):
        raise ConfigError(
            f"{name} must be a mapping of options to values, got {type(value).__name__}"
        )
    return plain(value or {})
