"""Callbacks after the import of a named module."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class AfterImport(MetaPathFinder):
    """Calls functions on modules right after their execution.

    The importing module sees the changes, whichever import statement it uses. Modules
    that are never imported have no cost.

    Example
    -------
    >>> import sys
    >>> hook = AfterImport()
    >>> hook.call("colorsys", lambda module: setattr(module, "ONE_HALF", 0.5))
    >>> hook.install()
    >>> from colorsys import ONE_HALF
    >>> ONE_HALF
    0.5
    >>> sys.meta_path.remove(hook)
    """

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callable[[ModuleType], None]]] = {}

    def call(self, name: str, callback: Callable[[ModuleType], None]) -> None:
        """Call a function on the module with this full name once it is imported."""
        self._callbacks.setdefault(name, []).append(callback)

    def install(self) -> None:
        """Start watching imports; modules already imported are handled at once."""
        sys.meta_path.insert(0, self)
        for name in self._callbacks:
            if name in sys.modules:
                self._run(sys.modules[name])

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find a watched module with the other finders and wrap its loader."""
        if fullname not in self._callbacks:
            return None
        spec = find_elsewhere(self, fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenCall(spec.loader, self._run)
        return spec

    def _run(self, module: ModuleType) -> None:
        for callback in self._callbacks[module.__name__]:
            callback(module)


def find_elsewhere(
    finder: MetaPathFinder,
    fullname: str,
    path: Sequence[str] | None,
    target: ModuleType | None = None,
) -> ModuleSpec | None:
    """Find a module with the finders after this one in ``sys.meta_path``.

    Earlier finders have already been called, or are calling this one.
    """
    finders = list(sys.meta_path)
    for other in finders[finders.index(finder) + 1 :]:
        if hasattr(other, "find_spec"):
            spec = other.find_spec(fullname, path, target)
            if spec is not None:
                return spec
    return None


class _ThenCall(Loader):
    """A loader that passes the executed module to a function."""

    def __init__(self, loader: Loader, then: Callable[[ModuleType], None]):
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module must look as if imported without this hook.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then(module)

    def __getattr__(self, name: str):
        # runpy, inspect and importlib.resources use further methods of loaders.
        return getattr(self._loader, name)
