"""The entry points of installed packages, as names inside the toolkits.

Neither toolkit reads entry points. Here the entry ``rvq`` of the group
``speechbrain.lobes`` becomes importable as ``speechbrain.lobes.rvq``, and the same for
``espnet2.gan_codec``, whose codecs become choices of ``--codec`` too.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.utils.import_hooks import AfterImport, find_elsewhere

# The groups are named after the packages of the toolkits that they extend.
LOBES = "speechbrain.lobes"
CODECS = "espnet2.gan_codec"
# This package's ESPnet side, which extends the same module.
CODEC_SIDE = "sb_espnet_vq.gan_codec"
# The module with ESPnet's table of codecs, and the class that all codecs derive from.
CODEC_TASK = "espnet2.tasks.gan_codec"
CODEC_BASE = ("espnet2.gan_codec.abs_gan_codec", "AbsGANCodec")


def install(hook: AfterImport) -> None:
    """Make the entries of both groups importable, and codecs choices of ESPnet."""
    codecs = PluginFinder(CODECS)
    sys.meta_path[:0] = [PluginFinder(LOBES), codecs]
    hook.call(CODEC_TASK, lambda task: _add_codecs(codecs, task))
    hook.call(CODEC_TASK, _extend)


class PluginFinder(MetaPathFinder):
    """Finds ``GROUP.NAME`` among the entry points of a group.

    What the entry names is imported once, from its own place, when ``GROUP.NAME`` is
    asked for. The import yields that very object, so that a class stays one class by
    whichever path it is reached.

    Arguments
    ---------
    group : str
        The group, and the package of the toolkit that its entries appear in.
    """

    def __init__(self, group: str):
        self.group = group

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find an entry, or a module below one that names a package."""
        if not fullname.startswith(f"{self.group}."):
            return None
        name, _, below = fullname[len(self.group) + 1 :].partition(".")
        if name not in self.entries:
            return None
        if below:
            # Through the alias the file would be imported a second time.
            module = f"{self.entries[name][0].module}.{below}"
            return ModuleSpec(fullname, _Alias(lambda: import_module(module)))
        if find_elsewhere(self, fullname, path, target) is not None:
            raise self.clash(name)
        return ModuleSpec(fullname, _Alias(lambda: self.load(name)))

    def load(self, name: str) -> object:
        """Return what an entry names.

        Arguments
        ---------
        name : str
            A name of ``entries``.

        Returns
        -------
        object
            A class or a module, as a rule.

        Raises
        ------
        ConfigError
            If two packages own the name, or it is not lower case.
        """
        first, *others = self.entries[name]
        if others:
            raise self.clash(name)
        if name != name.lower():
            raise ConfigError(
                f"{_owner(first)} registers {name!r} in {self.group}: names must be "
                f"lower case, like {name.lower()!r}"
            )
        return first.load()

    def clash(self, name: str) -> ConfigError:
        """Return an error that names all who claim a name, the toolkit if need be."""
        owners = [_owner(entry) for entry in self.entries[name]]
        if len(owners) == 1:
            owners.insert(0, self.group.partition(".")[0])
        return ConfigError(
            f"{self.group}.{name} is claimed by {' and '.join(owners)}; one of the "
            "packages has to be uninstalled, or to rename its entry"
        )

    @cached_property
    def entries(self) -> dict[str, tuple[EntryPoint, ...]]:
        """Every name of the group, with all the entries that claim it."""
        found: dict[str, tuple[EntryPoint, ...]] = {}
        for entry in entry_points(group=self.group):
            found[entry.name] = (*found.get(entry.name, ()), entry)
        return found


class _Alias(Loader):
    """Puts an object that exists elsewhere in the place of a new module."""

    def __init__(self, load: Callable[[], object]):
        self._load = load

    def exec_module(self, module: ModuleType) -> None:
        # The import system takes what lies in sys.modules after this, module or not.
        sys.modules[module.__name__] = self._load()  # type: ignore[assignment]


def _add_codecs(finder: PluginFinder, task: ModuleType) -> None:
    """Add the codecs among the entries to the table that ESPnet chooses from."""
    module, attribute = CODEC_BASE
    base = getattr(sys.modules[module], attribute)
    table = task.codec_choices.classes
    for name in sorted(finder.entries):
        try:
            found = finder.load(name)
        except Exception as error:
            # Whether it is a codec nobody can tell: it may be asked for as one.
            found = _failing(base, error)
        if not (isinstance(found, type) and issubclass(found, base)):
            continue
        if table.get(name, found) is not found:
            found = _failing(base, finder.clash(name))
        table[name.lower()] = found


def _extend(task: ModuleType) -> None:
    """Extend the task module if a swap imported our side before the task was ready."""
    if CODEC_SIDE in sys.modules:
        sys.modules[CODEC_SIDE].extend(task)


def _failing(base: type, error: Exception) -> type:
    """Return a class that raises an error, with its own traceback, when built."""

    def fail(cls, *args, **kwargs):
        raise error

    return type("FailedPlugin", (base,), {"__new__": fail})


def _owner(entry: EntryPoint) -> str:
    # Python 3.10's entry points made by hand have no distribution.
    name = f"the package {entry.dist.name}" if entry.dist else "an unknown package"
    return f"{name} ({entry.value})"
