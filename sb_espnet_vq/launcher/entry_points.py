"""Entry points of installed packages, importable as names of the toolkits.

The toolkits do not read entry points. This module makes the entry ``rvq`` of the group
``speechbrain.lobes`` importable as ``speechbrain.lobes.rvq``, and likewise entries of
``espnet2.gan_codec``, whose codecs also become choices of ``--codec``.
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

# Each group has the name of the toolkit's package that it extends.
LOBES = "speechbrain.lobes"
CODECS = "espnet2.gan_codec"
# Our package for ESPnet, which extends the same module.
CODEC_SIDE = "sb_espnet_vq.gan_codec"
# Module with ESPnet's table of codecs, and the base class of all codecs.
CODEC_TASK = "espnet2.tasks.gan_codec"
CODEC_BASE = ("espnet2.gan_codec.abs_gan_codec", "AbsGANCodec")


def install(hook: AfterImport) -> None:
    """Make the entries of both groups importable, and codecs choices of ``--codec``."""
    codecs = PluginFinder(CODECS)
    sys.meta_path[:0] = [PluginFinder(LOBES), codecs]
    hook.call(CODEC_TASK, lambda task: _add_codecs(codecs, task))
    hook.call(CODEC_TASK, _extend)


class PluginFinder(MetaPathFinder):
    """Finds ``GROUP.NAME`` among the entry points of a group.

    The object that an entry refers to is imported once, from its own module, when
    ``GROUP.NAME`` is first imported. Both paths give the same object.

    Arguments
    ---------
    group : str
        The group, which is also the name of the toolkit's package.
    """

    def __init__(self, group: str):
        self.group = group

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find an entry, or a submodule of an entry that refers to a package."""
        if not fullname.startswith(f"{self.group}."):
            return None
        name, _, below = fullname[len(self.group) + 1 :].partition(".")
        if name not in self.entries:
            return None
        if below:
            # Importing the file under its alias would execute it a second time.
            module = f"{self.entries[name][0].module}.{below}"
            return ModuleSpec(fullname, _Alias(lambda: import_module(module)))
        if find_elsewhere(self, fullname, path, target) is not None:
            raise self.clash(name)
        return ModuleSpec(fullname, _Alias(lambda: self.load(name)))

    def load(self, name: str) -> object:
        """Return the object that an entry refers to.

        Arguments
        ---------
        name : str
            A name of ``entries``.

        Returns
        -------
        object
            Usually a class or a module.

        Raises
        ------
        ConfigError
            If two packages register the name, or it is not lower case.
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
        """Return an error that lists all packages with this name."""
        owners = [_owner(entry) for entry in self.entries[name]]
        if len(owners) == 1:
            owners.insert(0, self.group.partition(".")[0])
        return ConfigError(
            f"{self.group}.{name} is claimed by {' and '.join(owners)}; uninstall one "
            "of the packages, or rename its entry"
        )

    @cached_property
    def entries(self) -> dict[str, tuple[EntryPoint, ...]]:
        """All names of the group, each with all entries of this name."""
        by_name: dict[str, tuple[EntryPoint, ...]] = {}
        for entry in entry_points(group=self.group):
            by_name[entry.name] = (*by_name.get(entry.name, ()), entry)
        return by_name


class _Alias(Loader):
    """A loader that replaces a new module with an existing object."""

    def __init__(self, load: Callable[[], object]):
        self._load = load

    def exec_module(self, module: ModuleType) -> None:
        # The import system returns the object in sys.modules, module or not.
        sys.modules[module.__name__] = self._load()  # type: ignore[assignment]


def _add_codecs(finder: PluginFinder, task: ModuleType) -> None:
    """Add the codecs among the entries to ESPnet's table of codecs."""
    module, attribute = CODEC_BASE
    base = getattr(sys.modules[module], attribute)
    table = task.codec_choices.classes
    for name in sorted(finder.entries):
        try:
            codec = finder.load(name)
        except Exception as error:
            # It may be a codec, so the error is raised if it is selected as one.
            codec = _failing(base, error)
        if not (isinstance(codec, type) and issubclass(codec, base)):
            continue
        if table.get(name, codec) is not codec:
            codec = _failing(base, finder.clash(name))
        table[name.lower()] = codec


def _extend(task: ModuleType) -> None:
    """Extend the task module if a swap has imported our package for ESPnet first."""
    if CODEC_SIDE in sys.modules:
        sys.modules[CODEC_SIDE].extend(task)


def _failing(base: type, error: Exception) -> type:
    """Return a class that raises the error, with its traceback, when instantiated."""

    def fail(cls, *args, **kwargs):
        raise error

    return type("FailedPlugin", (base,), {"__new__": fail})


def _owner(entry: EntryPoint) -> str:
    # Python 3.10: entry points constructed directly have no distribution.
    name = f"the package {entry.dist.name}" if entry.dist else "an unknown package"
    return f"{name} ({entry.value})"
