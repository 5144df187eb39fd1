"""What a layout says: the names of a quantizer's tensors elsewhere, and ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from sb_espnet_vq.errors import CheckpointError, ConfigError


def _unchanged(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tensors


class Rule(NamedTuple):
    """Some tensors elsewhere, and ours with the same content.

    theirs, ours : names of the tensors; read : from theirs to ours; write : from ours
    to theirs, so that the other program computes the same.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    read: Callable[..., tuple[Tensor, ...]] = _unchanged
    write: Callable[..., tuple[Tensor, ...]] = _unchanged


class State(dict[str, Tensor]):
    """The tensors of a quantizer elsewhere, by their names in its layout."""

    def sizes(self, name: str, dims: int) -> tuple[int, ...]:
        """Return the shape of a tensor that must have ``dims`` dimensions.

        Raises
        ------
        CheckpointError
            If it is missing, or has another number of dimensions.
        """
        if name not in self:
            raise CheckpointError(f"the tensor {name!r} is missing")
        if self[name].dim() != dims:
            raise CheckpointError(
                f"the tensor {name!r} must have {dims} dimensions, got "
                f"{tuple(self[name].shape)}"
            )
        return tuple(self[name].shape)


class Layout(NamedTuple):
    """The state dict of a quantizer elsewhere.

    title : where it is used; key : pattern of its names, whose only group is what comes
    before the quantizer's own names; describe : from a `State` and the given options to
    the name and the options of our quantizer; rules : from the state of our quantizer
    to the rules for all its tensors; given : options that the tensors do not show.
    """

    title: str
    key: str
    describe: Callable[[State, Mapping[str, Any]], tuple[str, dict[str, Any]]]
    rules: Callable[[Mapping[str, Tensor]], list[Rule]]
    given: tuple[str, ...] = ()


def count(names: Mapping[str, Any], pattern: str) -> int:
    """Return the number of levels, given the pattern of their names.

    Arguments
    ---------
    names : Mapping
        By name.
    pattern : str
        A regular expression for the start of a name, whose group is the number of the
        level.

    Returns
    -------
    int
        Of different numbers: a file cannot ask for more levels than it has names.

    Example
    -------
    >>> count({"layers.0.a": 0, "layers.10.a": 0, "b": 0}, r"layers\\.(\\d+)\\.")
    2
    """
    found = [match for name in names if (match := re.match(pattern, name))]
    return len({int(match[1]) for match in found})


def need(given: Mapping[str, Any], name: str) -> int:
    """Return an option that no tensor shows.

    Raises
    ------
    ConfigError
        If it is not given.
    """
    if name not in given:
        raise ConfigError(
            f"the tensors of this layout do not show {name}: pass {name}=..., on the "
            f"command line --{name}"
        )
    return given[name]


def column(weight: Tensor) -> tuple[Tensor, ...]:
    """Return the weight (out, in) of a convolution of width 1, (out, in, 1)."""
    return (weight.squeeze(-1),)


def convolution(weight: Tensor) -> tuple[Tensor, ...]:
    """Return the weight (out, in, 1) of a convolution, given that of a linear layer."""
    return (weight[..., None],)
