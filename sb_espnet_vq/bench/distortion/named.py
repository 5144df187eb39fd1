"""Quantizers of the comparison by name and options, from the command line."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

from sb_espnet_vq.bench.distortion.model import Model, Sizes
from sb_espnet_vq.bench.distortion.others import OTHERS
from sb_espnet_vq.bench.distortion.ours import OurModel
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.registry import find_quantizer


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``NAME`` or ``NAME:option=value,...``.

    Arguments
    ---------
    text : str
        Values are JSON, or else text; commas inside brackets belong to a value.

    Returns
    -------
    name : str
        Of a registered quantizer, or of `OTHERS`.
    options : dict
        Of the quantizer.

    Raises
    ------
    ConfigError
        If an option has no value or the quantizer is unknown.

    Example
    -------
    >>> parse('rvq:decay=0.9,kmeans_init=false')
    ('rvq', {'decay': 0.9, 'kmeans_init': False})
    """
    name, _, rest = text.partition(":")
    if name not in OTHERS:
        find_quantizer(name)
    options: dict[str, Any] = {}
    for pair in _pairs(rest):
        key, equals, value = pair.partition("=")
        if not key.strip() or not equals:
            raise ConfigError(f"{text}: {pair!r} is not of the form option=value")
        try:
            options[key.strip()] = json.loads(value)
        except ValueError:
            options[key.strip()] = value.strip()
    return name, options


def make_model(name: str, options: dict[str, Any], sizes: Sizes, lr: float) -> Model:
    """Build an untrained model.

    Arguments
    ---------
    name, options
        From `parse`.
    sizes : Sizes
        Of frames and codebooks.
    lr : float
        Learning rate of quantizers that learn by gradient.

    Returns
    -------
    Model

    Raises
    ------
    ConfigError
        If an option is invalid or a package is missing.
    """
    if name not in OTHERS:
        return OurModel(name, sizes, dict(options), lr)
    kind = OTHERS[name]
    package = kind.module.partition(".")[0]
    if find_spec(package) is None:
        raise ConfigError(f"{name}: the package {package} is not installed")
    return kind(sizes, dict(options))


def _pairs(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    pairs, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            pairs.append(text[start:place])
            start = place + 1
    return [*pairs, text[start:]] if text else []
