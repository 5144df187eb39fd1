"""Quantizers by name, from the entry points of every installed package."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.quantizers.base import Quantizer

GROUP = "sb_espnet_vq.quantizers"
# What every family takes, even one whose signature names nothing.
_COMMON = {"dim", "codebook_size"}


def build(name: str, /, **options) -> Quantizer:
    """Build a quantizer by name.

    Arguments
    ---------
    name : str
        A name of ``list_quantizers()``, or the full path of a class.
    **options
        What the family takes; every family takes ``dim`` and ``codebook_size``.

    Returns
    -------
    Quantizer

    Raises
    ------
    ConfigError
        If the name is not registered, or an option is unknown, missing or wrong.

    Example
    -------
    >>> build("vq", dim=8, codebook_size=16).codebook_size
    16
    """
    family = find_quantizer(name)
    _check_options(name, family, options)
    return family(**options)


def list_quantizers() -> list[str]:
    """Return the names of the registered quantizers, sorted.

    Nothing is imported, so a name stands here even when its package is broken.

    Example
    -------
    >>> "rvq" in list_quantizers()
    True
    """
    return sorted(_entries())


def find_quantizer(name: str) -> type[Quantizer]:
    """Return the class registered under a name, or found at a full path.

    Arguments
    ---------
    name : str
        A name of ``list_quantizers()``, or the path of a class that need not be
        registered: ``my_module.MyQuantizer``.

    Returns
    -------
    type

    Raises
    ------
    ConfigError
        If the name is unknown, registered twice or not in lower case, or if what
        it points to cannot be imported (with the cause) or is no ``Quantizer``.

    Example
    -------
    >>> find_quantizer("bsq").__name__
    'BSQ'
    """
    entries = _entries()
    if "." in name and name not in entries:
        return _load_path(name)
    if name not in entries:
        raise ConfigError(_unknown_name(name, entries))
    found = entries[name]
    if len(found) > 1:
        owners = " and ".join(_owner(entry) for entry in found)
        raise ConfigError(
            f"two quantizers are registered as {name!r}, by {owners}; "
            "one of the packages has to be uninstalled, or to rename its entry"
        )
    if name != name.lower():
        raise ConfigError(
            f"{_owner(found[0])} registers a quantizer as {name!r}: names must be "
            f"lower case, like {name.lower()!r}"
        )
    return _load(found[0])


def quantizer_options(name: str) -> dict[str, inspect.Parameter]:
    """Return the options of a registered quantizer, in the constructor's order.

    Arguments
    ---------
    name : str
        A name of ``list_quantizers()``.

    Returns
    -------
    dict
        Option name to ``inspect.Parameter``, which holds its default.

    Raises
    ------
    ConfigError
        As ``find_quantizer``.

    Example
    -------
    >>> list(quantizer_options("vq"))[:2]
    ['dim', 'codebook_size']
    """
    return dict(inspect.signature(find_quantizer(name)).parameters)


def refresh() -> None:
    """Read the entry points again, after a package was installed meanwhile."""
    _entries.cache_clear()


def family_options(
    quantizer: str, mapped: dict[str, Any], conf: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the options to build a family with.

    Arguments
    ---------
    quantizer : str
        A registered name.
    mapped : dict
        What the role's arguments say, by the families' names; those that the family
        does not have are left out.
    conf : dict, optional
        What the user says, which wins. It is not changed.

    Returns
    -------
    dict

    Raises
    ------
    ConfigError
        If the name is unknown, ``conf`` is no dict, or it names another ``dim`` than
        the frames of the role have.

    Example
    -------
    >>> mapped = {"dim": 8, "codebook_size": 32, "n_codebooks": 1}
    >>> family_options("vq", mapped, {"codebook_size": 16})
    {'dim': 8, 'codebook_size': 16}
    """
    known = _COMMON | set(quantizer_options(quantizer))
    options = {name: value for name, value in mapped.items() if name in known}
    if not isinstance(conf, Mapping | None):
        raise ConfigError(
            "quantizer_conf must be a dict of the quantizer's options, got "
            f"{type(conf).__name__}"
        )
    options |= conf or {}
    if options["dim"] != mapped["dim"]:
        raise ConfigError(
            f"quantizer_conf sets dim to {options['dim']!r}, but the frames that come "
            f"in here are {mapped['dim']!r} wide; leave dim out"
        )
    return options


@cache
def _entries() -> dict[str, tuple[EntryPoint, ...]]:
    # Reading the metadata of a hundred packages takes a while: once, when needed.
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=GROUP):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def _load(entry: EntryPoint) -> type[Quantizer]:
    where = f"quantizer {entry.name!r} of {_owner(entry)} ({entry.value})"
    return _load_class(entry.load, where)


def _load_path(path: str) -> type[Quantizer]:
    module, _, attribute = path.rpartition(".")
    return _load_class(
        lambda: getattr(import_module(module), attribute), f"quantizer {path!r}"
    )


def _load_class(load: Callable[[], object], where: str) -> type[Quantizer]:
    try:
        family = load()
    except Exception as error:
        raise ConfigError(
            f"{where} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(family, type) and issubclass(family, Quantizer)):
        kind = family.__name__ if isinstance(family, type) else repr(family)
        raise ConfigError(
            f"{where} is no quantizer: {kind} does not derive from "
            "sb_espnet_vq.Quantizer"
        )
    return family


def _check_options(name: str, family: type[Quantizer], options: dict) -> None:
    known = inspect.signature(family).parameters
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = {o: p for o, p in known.items() if p.kind not in variadic}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
    unknown = [o for o in options if o not in named and not takes_any]
    if unknown:
        raise ConfigError(
            f"{name!r} has no option {unknown[0]!r}{_close_to(unknown[0], named)}; "
            f"its options are {', '.join(named)}"
        )
    missing = [o for o, p in named.items() if p.default is p.empty and o not in options]
    if missing:
        raise ConfigError(
            f"{name!r} needs {' and '.join(missing)} as well; "
            f"its options are {', '.join(named)}"
        )


def _unknown_name(name: str, known: Iterable[str]) -> str:
    if not known:
        return (
            f"no quantizer is registered, so {name!r} is not either: the package is "
            "importable but not installed. Run `pip install -e .` in its checkout, "
            "or `pip install sb_espnet_vq`"
        )
    return (
        f"unknown quantizer {name!r}{_close_to(name, known)}; registered are "
        f"{', '.join(sorted(known))}. (An entry point added to a setup.cfg counts "
        "once `pip install` has run again.)"
    )


def _close_to(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word).lower(), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _owner(entry: EntryPoint) -> str:
    # Python 3.10's entry points made by hand have no distribution.
    return f"the package {entry.dist.name}" if entry.dist else "an unknown package"
