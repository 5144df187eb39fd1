"""Reads hyperparameters from YAML and the command line, and validates them."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedSeq, TaggedScalar

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.training.declared import DECLARED
from sb_espnet_vq.training.kinds import MAPPING, TEXT, Kind, OrNull

# Until hyperpyyaml has loaded a file, it reads tuples as texts. It would give the
# anchor of such a text, as the YAML of a run has it, to another node too.
load_hyperpyyaml("{}")

_NULL = ("", "null", "~")


def split_arguments(
    arguments: list[str], options: Collection[str]
) -> tuple[list[str], dict[str, Any]]:
    """Split a command line into options of SpeechBrain and overrides of the YAML.

    SpeechBrain's parser also accepts prefixes of its options (`--optimizer` for
    `--optimizer_step_limit`) and cannot read a key that is given twice.

    Arguments
    ---------
    arguments : list[str]
        The arguments after the hparams file.
    options : Collection[str]
        Names of SpeechBrain's options.

    Returns
    -------
    words : list[str]
        SpeechBrain's options with their values.
    overrides : dict
        The last value of each key, parsed as YAML; a string if the key is declared as
        text.

    Raises
    ------
    ConfigError
        If a value is not valid YAML, or an argument belongs to no option.

    Example
    -------
    >>> words = "--lr 0.1 --device cpu --manifest=7 --lr 1e-3".split()
    >>> split_arguments(words, ["device"])
    (['--device', 'cpu'], {'lr': 0.001, 'manifest': '7'})
    """
    words: dict[str, list[str]] = {}
    latest: list[str] = []
    for argument in arguments:
        if argument.startswith("--"):
            key, equals, value = argument[2:].partition("=")
            latest = words[key] = [value] if equals else []
        elif not words:
            raise ConfigError(f"{argument}: options start with --, as in --lr 0.1")
        else:
            latest.append(argument)
    taken: list[str] = []
    overrides: dict[str, Any] = {}
    for key, given in words.items():
        value = _value(key, " ".join(given))
        if key in options:
            if given:
                _check(key, value, f"--{key}")
            taken += [f"--{key}", *given]
        else:
            overrides[key] = value
    return taken, overrides


def load_hparams(
    path: str | Path, overrides: Any, options: Collection[str] = ()
) -> dict[str, Any]:
    """Validate every declared key of a YAML file, then load the file.

    Arguments
    ---------
    path : str or Path
        The hparams file.
    overrides : dict or str
        Overrides from the command line.
    options : Collection[str]
        Other names to suggest for an unknown override.

    Returns
    -------
    dict

    Raises
    ------
    ConfigError
        If the file does not exist, a key is unknown, a value is missing, or a value
        does not match the declaration of its key.
    """
    if isinstance(overrides, str):
        overrides = _parse(overrides, "the overrides") or {}
    preview = read_yaml(path)
    for key, value in overrides.items():
        if key not in preview:
            near = difflib.get_close_matches(key, [*preview, *options])
            hint = f"; did you mean --{' or --'.join(near)}?" if near else ""
            raise ConfigError(f"--{key}: {path} has no such key{hint}")
        if isinstance(preview[key], Mapping) and value is not None:
            _check_kind(MAPPING, value, f"--{key}")
    for place, key, value in leaves(preview):
        if place.partition(".")[0] not in overrides:
            _check(key, value, f"{path}: {place}")
    check_values(overrides)
    try:
        with open(path, encoding="utf-8") as file:
            return load_hyperpyyaml(file, overrides)
    except ValueError as error:
        if "!PLACEHOLDER" not in str(error):
            raise
        raise ConfigError(f"{path}: {error}") from None


def check_values(overrides: Mapping[str, Any]) -> None:
    """Validate values from the command line.

    Arguments
    ---------
    overrides : dict
        As `split_arguments` returns them.

    Raises
    ------
    ConfigError
        If a value does not match the declaration of its key.
    """
    for place, key, value in leaves(overrides):
        _check(key, value, f"--{place}")


def read_yaml(path: str | Path) -> Mapping[str, Any]:
    """Read a YAML file without building its objects.

    Arguments
    ---------
    path : str or Path
        The hparams file.

    Returns
    -------
    Mapping
        As ruamel reads it.

    Raises
    ------
    ConfigError
        If the file does not exist or is not a mapping in YAML.
    """
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such hparams file")
    tree = _parse(Path(path).read_text(encoding="utf-8"), str(path))
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path}: an hparams file must map keys to values")
    return tree


def leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield every value of a YAML file that is neither a reference nor computed.

    Arguments
    ---------
    tree : Mapping
        As ruamel reads it.

    Yields
    ------
    place : str
        Path of keys, joined by dots.
    key : str
        Key of its declaration: a top-level key or `PARENT.KEY`.
    value : object
        Without references inside lists; tuples become lists.
    """
    stack: list[tuple[tuple[str, ...], Any]] = [((k,), v) for k, v in tree.items()]
    while stack:
        keys, value = stack.pop(0)
        key = ".".join(keys[-2:])
        if isinstance(value, TaggedScalar) or _is_call(value):
            continue
        if isinstance(value, Mapping) and key not in DECLARED:
            stack += [((*keys, str(k)), v) for k, v in value.items()]
            continue
        if isinstance(value, str) and re.fullmatch(r"\(.*\)", value):
            value = _tuple(value)
        if isinstance(value, list):
            value = [each for each in value if not isinstance(each, TaggedScalar)]
        yield ".".join(keys), key, value


def _is_call(value: Any) -> bool:
    """Return whether a value is computed, as `!apply:operator.getitem [...]` is."""
    return isinstance(value, CommentedSeq) and bool(value.tag.value)


def _tuple(text: str) -> Any:
    # hyperpyyaml converts such strings to tuples.
    try:
        return list(ast.literal_eval(text))
    except (SyntaxError, TypeError, ValueError):
        return text


def _value(key: str, text: str) -> Any:
    """Parse a command-line value."""
    if DECLARED.get(key) not in (TEXT, OrNull(TEXT)):
        return _parse(text, f"--{key}")
    if text in _NULL:
        return None
    # Parse only references and quoted strings.
    return _parse(text, f"--{key}") if text[0] in "!'\"" else text


def _parse(text: str, where: str) -> Any:
    try:
        return YAML().load(text)
    except YAMLError as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{where}: not YAML ({line})") from None


def _check(key: str, value: Any, where: str) -> None:
    if key in DECLARED:
        _check_kind(DECLARED[key], value, where)


def _check_kind(kind: Kind, value: Any, where: str) -> None:
    if not kind.accepts(value):
        raise ConfigError(f"{where} must be {kind}, not {_plain(value)!r}")


def _plain(value: Any) -> Any:
    """Convert values of ruamel to plain Python, for messages."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, float) else value
