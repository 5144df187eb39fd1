"""Registry of quantizers: names from the entry points of all installed packages."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

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
        If the name is not registered, or an option is unknown, missing or wrong.

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

    Nothing is imported, so the list includes quantizers of broken packages.

    Example
    -------
    >>> "rvq" in list_quantizers()
    True
    """
    return sorted(_entries())


def find_quantizer(name: str) -> type[Quantizer]:
    """Return the class registered under a name, or at a full path.

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
        it refers to cannot be imported (with the cause) or is no ``Quantizer``.

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
    """Return the options of a quantizer, in the constructor's order.

    Arguments
    ---------
    name : str
        A name of ``list_quantizers()``, or the full path of a class.

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
    return options_of_class(find_quantizer(name))


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
    """Read the entry points again, after the installation of a package."""
    _entries.cache_clear()


def same_quantizer(name: str, other: str) -> bool:
    """Return whether two names or class paths refer to the same quantizer.

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
    # Cached, since reading the metadata of all installed packages is slow.
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
        loaded = load()
    except Exception as error:
        raise ConfigError(
            f"{where} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Quantizer)):
        kind = loaded.__name__ if isinstance(loaded, type) else repr(loaded)
        raise ConfigError(
            f"{where} is no quantizer: {kind} does not derive from "
            "sb_espnet_vq.Quantizer"
        )
    return loaded


def _check_options(name: str, quantizer: type[Quantizer], options: dict) -> None:
    known = options_of_class(quantizer)
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
    # Entry points that are constructed directly have no distribution.
    return f"the package {entry.dist.name}" if entry.dist else "an unknown package"
