"""Adds the YAML key to errors that are raised while a codec is constructed."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sb_espnet_vq.errors import ConfigError

#: Option of a quantizer to its key in ESPnet's ``generator_params``.
GENERATOR_KEYS = {
    "dim": "hidden_dim",
    "codebook_size": "quantizer_bins",
    "n_codebooks": "quantizer_n_q",
    "decay": "quantizer_decay",
    "kmeans_init": "quantizer_kmeans_init",
    "kmeans_iters": "quantizer_kmeans_iters",
    "threshold_ema_dead_code": "quantizer_threshold_ema_dead_code",
    "code_dim": "codebook_dim",
    "quantizer_dropout": "quantizer_dropout",
}
# Python's error for an unknown argument and typeguard's for a wrong type: ESPnet passes
# whole sections of the YAML to constructors.
_UNKNOWN = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_WRONG_TYPE = re.compile(r'argument "(\w+)"')


@contextmanager
def of_espnet(conf: Mapping[str, Any], defaults: Mapping[str, Mapping]) -> Iterator:
    """Name the YAML key in errors of ESPnet's constructors.

    Arguments
    ---------
    conf : Mapping
        ``codec_conf``.
    defaults : Mapping
        Name of each codec to its options, to find the codec that has a key.

    Raises
    ------
    ConfigError
        Replaces the error of ESPnet or Python.
    """
    try:
        yield
    except Exception as error:
        text = str(error)
        if unknown := _UNKNOWN.search(text):
            owner, key = unknown.groups()
            paths = list(_paths(conf, key))
            if paths:
                raise ConfigError(
                    f"{_shown(paths)}: ESPnet's {owner} has no option {key!r}; "
                    f"{_remedy(paths[0], defaults)}"
                ) from error
        elif wrong := _WRONG_TYPE.search(text):
            if paths := list(_paths(conf, wrong[1])):
                raise ConfigError(f"{_shown(paths)}: {text}") from error
        raise


@contextmanager
def of_quantizer(place: str, options: str, conf: Collection[str]) -> Iterator:
    """Name the YAML key in errors of the quantizer.

    Arguments
    ---------
    place : str
        Key of the quantizer's name.
    options : str
        Key of its options, with ``{}`` for the name of an option.
    conf : collection of str
        Names of the given options.

    Raises
    ------
    ConfigError
        The quantizer's error, prefixed with the key.
    """
    try:
        yield
    except ConfigError as error:
        text = _with_key(str(error), place, options, conf)
        raise ConfigError(text) from error


def _with_key(text: str, place: str, options: str, conf: Collection[str]) -> str:
    """Prefix an error with the key of the first option that it names."""
    for word in re.findall(r"\w+", text):
        if word in conf:
            return f"{options.format(word)}: {text}"
        if word in GENERATOR_KEYS:
            key = GENERATOR_KEYS[word]
            return (
                f"codec_conf.generator_params.{key}: {text}. Change it there, or set "
                f"{options.format(word)}, which overrides it"
            )
    return f"{place}: {text}"


def _paths(conf: Any, key: str, above: tuple[str, ...] = ()) -> Iterator[tuple]:
    """Yield every path to a key in nested mappings."""
    if not isinstance(conf, Mapping):
        return
    for name, value in conf.items():
        if name == key:
            yield (*above, name)
        yield from _paths(value, key, (*above, name))


def _remedy(path: tuple[str, ...], defaults: Mapping[str, Mapping]) -> str:
    owners = [name for name, conf in defaults.items() if _has(conf, path)]
    if owners:
        return f"use {' or '.join(owners)}, which has it, or remove the key"
    return "remove the key"


def _has(conf: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(conf, Mapping) or name not in conf:
            return False
        conf = conf[name]
    return True


def _shown(paths: list[tuple[str, ...]]) -> str:
    return " or ".join(".".join(("codec_conf", *path)) for path in paths)
