"""Quantizers by name, from the entry points of all installed packages."""

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


def build(name: str, /, **options) -> Quantizer:
    """Build a quantizer by name.

    Arguments
    ---------
    name : str
        A name of ``list_quantizers()``, or the full path of a class.
    **options
        Options of the quantizer; all take ``dim`` and ``codebook_size``.

    Returns
    -------
    Quantizer

    Raises
    ------
    ConfigError
        If the name is not registered, or an option is unknown, missing or invalid.

    Example
    -------
    >>> build("vq", dim=8, codebook_size=16).codebook_size
    16
    """
    quantizer = find_quantizer(name)
    _check_options(name, quantizer, options)
    return quantizer(**options)


def list_quantizers() -> list[str]:
    """Return the names of the registered quantizers, sorted.

    Nothing is imported, so names of broken packages are included.

    Example
    -------
    >>> "rvq" in list_quantizers()
    True
    """
    return sorted(_entries())


def find_quantizer(name: str) -> type[Quantizer]:
    """Return the class with a registered name or a full path.

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
        If the name is unknown, registered twice or not in lower case, or if its class
        cannot be imported (with the cause) or is not a ``Quantizer``.

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
    matches = entries[name]
    if len(matches) > 1:
        owners = " and ".join(_owner(entry) for entry in matches)
        raise ConfigError(
            f"two quantizers are registered as {name!r}, by {owners}; "
            "uninstall one of the packages, or rename its entry point"
        )
    if name != name.lower():
        raise ConfigError(
            f"{_owner(matches[0])} registers a quantizer as {name!r}: names must be "
            f"lower case, like {name.lower()!r}"
        )
    return _load(matches[0])


def quantizer_options(
    name: str, given: Mapping[str, Any] | None = None
) -> dict[str, inspect.Parameter]:
    """Return the options of a quantizer, in the constructor's order.

    Arguments
    ---------
    name : str
        A name of ``list_quantizers()``, or the full path of a class.
    given : Mapping, optional
        Options that will be passed, as in `Quantizer.options`.

    Returns
    -------
    dict
        Option name to ``inspect.Parameter``, which holds its default.

    Raises
    ------
    ConfigError
        As ``find_quantizer`` and `Quantizer.options`.

    Example
    -------
    >>> list(quantizer_options("vq"))[:2]
    ['dim', 'codebook_size']
    """
    return find_quantizer(name).options(given or {})


def options_of_class(cls: type) -> dict[str, inspect.Parameter]:
    """Return the options of any class, in its constructor's order.

    Arguments
    ---------
    cls : type
        A quantizer, or a class of a toolkit.

    Returns
    -------
    dict
        Option name to ``inspect.Parameter``.

    Example
    -------
    >>> from torch import nn
    >>> list(options_of_class(nn.Identity))
    ['args', 'kwargs']
    """
    return dict(inspect.signature(cls).parameters)


def refresh() -> None:
    """Read the entry points again, for packages installed since the first time."""
    _entries.cache_clear()


def same_quantizer(name: str, other: str) -> bool:
    """Return whether two names, or full paths, refer to the same quantizer.

    Raises
    ------
    ConfigError
        As ``find_quantizer``.

    Example
    -------
    >>> same_quantizer("sb_espnet_vq.quantizers.rvq.RVQ", "rvq")
    True
    """
    return find_quantizer(name) is find_quantizer(other)


@cache
def _entries() -> dict[str, tuple[EntryPoint, ...]]:
    # Cached, since reading the metadata of many packages is slow.
    entries: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=GROUP):
        entries[entry.name] = (*entries.get(entry.name, ()), entry)
    return entries


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
        loaded = load()
    except Exception as error:
        raise ConfigError(
            f"{where} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Quantizer)):
        kind = loaded.__name__ if isinstance(loaded, type) else repr(loaded)
        raise ConfigError(
            f"{where} is not a quantizer: {kind} does not derive from "
            "sb_espnet_vq.Quantizer"
        )
    return loaded


def _check_options(name: str, quantizer: type[Quantizer], options: dict) -> None:
    known = quantizer.options(options)
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = {o: p for o, p in known.items() if p.kind not in variadic}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
    unknown = [o for o in options if o not in named and not takes_any]
    if unknown:
        raise ConfigError(
            f"{name!r}{_chosen(named, options)} has no option "
            f"{unknown[0]!r}{_close_to(unknown[0], named)}; its options are "
            f"{', '.join(named)}"
        )
    missing = [o for o, p in named.items() if p.default is p.empty and o not in options]
    if missing:
        raise ConfigError(
            f"{name!r} needs {' and '.join(missing)} as well; "
            f"its options are {', '.join(named)}"
        )


def _chosen(known: Iterable[str], options: Mapping[str, Any]) -> str:
    """Return the chosen parts, which may decide which options there are."""
    parts = [
        f"{o}={v!r}" for o, v in options.items() if o in known and isinstance(v, str)
    ]
    return f" with {', '.join(parts)}" if parts else ""


def _unknown_name(name: str, known: Iterable[str]) -> str:
    if not known:
        return (
            f"no quantizer is registered, not even {name!r}: the package is importable "
            "but not installed. Run `pip install -e .` in its checkout, or "
            "`pip install sb_espnet_vq`"
        )
    return (
        f"unknown quantizer {name!r}{_close_to(name, known)}; registered are "
        f"{', '.join(sorted(known))}. (After adding an entry point to setup.cfg, run "
        "`pip install` again.)"
    )


def _close_to(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word).lower(), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _owner(entry: EntryPoint) -> str:
    # Entry points constructed manually have no distribution in Python 3.10.
    return f"the package {entry.dist.name}" if entry.dist else "an unknown package"
