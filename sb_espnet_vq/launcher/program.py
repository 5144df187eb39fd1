"""Finding the program to launch, and running it as Python does."""

import builtins
import importlib.util
import io
import os
import sys
from dataclasses import dataclass
from importlib.abc import InspectLoader, Loader
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, TracebackType
from typing import Any

from sb_espnet_vq.errors import ConfigError

LAUNCHER = "sb_espnet_vq.run"
_RUN_FILE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "run.py")


class NoSuchModule(ConfigError):
    """The module does not exist or cannot be run."""


@dataclass(frozen=True)
class Program:
    """A program that is ready to run.

    Arguments
    ---------
    code : code
        Its compiled code.
    file : str
        Its file, as in ``__file__`` and in tracebacks.
    package : str or None
        ``__package__``: None for a script.
    loader : Loader
        ``__loader__``.
    name : str
        Full name of the module, or "__main__" for a script.
    """

    code: CodeType
    file: str
    package: str | None
    loader: Loader
    name: str

    def run(self, name: str, namespace: dict[str, Any]) -> None:
        """Execute the program in the namespace of the launcher's module.

        The namespace must be that of ``__main__``, in which pickle and typing look up
        classes and names of the program.

        Arguments
        ---------
        name : str
            ``__name__``: "__main__", or "__mp_main__" in a spawned process.
        namespace : dict
            Namespace of the module; the launcher's names are removed.
        """
        spec = _LauncherSpec(LAUNCHER, self.loader, origin=self.file)
        spec.package = self.package or ""
        namespace.clear()
        namespace.update(
            __name__=name,
            __doc__=None,
            __package__=self.package,
            __loader__=self.loader,
            __spec__=spec,
            __file__=self.file,
            __cached__=None,
            __builtins__=builtins,
        )
        exec(self.code, namespace)


class _LauncherSpec(ModuleSpec):
    """The spec of the program with the name of the launcher.

    A process spawned by ``multiprocessing`` imports its parent's main module by this
    name. It therefore runs the launcher, which installs plugins, before the program.
    """

    package = ""

    @property
    def parent(self) -> str:
        # Base of relative imports of the program.
        return self.package


def find_module(name: str) -> Program:
    """Find a module, or the ``__main__`` of a package, as ``python -m`` does.

    Arguments
    ---------
    name : str
        Full dotted name. Its parent packages are imported.

    Returns
    -------
    Program

    Raises
    ------
    NoSuchModule
        If the module does not exist or has no code to run.
    """
    spec = _find_spec(name)
    if spec.submodule_search_locations is not None:
        try:
            spec = _find_spec(f"{name}.__main__")
        except NoSuchModule:
            raise NoSuchModule(
                f"{name} is a package and has no {name}.__main__ to run"
            ) from None
    loader = spec.loader
    code = loader.get_code(spec.name) if isinstance(loader, InspectLoader) else None
    if loader is None or code is None:
        raise NoSuchModule(f"no code to run in module {name}")
    file = spec.origin or code.co_filename
    return Program(code, file, spec.parent, loader, spec.name)


def _find_spec(name: str) -> ModuleSpec:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        # An import error inside a parent package is not ours to report.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        spec = None
    except ValueError:
        spec = None
    if spec is None:
        raise NoSuchModule(f"no module named {name}")
    return spec


def find_script(path: str) -> Program:
    """Read a script.

    Arguments
    ---------
    path : str
        As given on the command line.

    Returns
    -------
    Program

    Raises
    ------
    ConfigError
        If the file cannot be read.
    """
    # Absolute, as in __file__ and tracebacks of Python.
    full = os.path.join(os.getcwd(), path)
    try:
        with io.open_code(full) as file:
            source = file.read()
    except OSError as error:
        raise ConfigError(f"cannot open {path}: {error.strerror}") from None
    code = compile(source, full, "exec", dont_inherit=True)
    return Program(code, full, None, SourceFileLoader("__main__", full), "__main__")


def hide_launcher_in_tracebacks() -> None:
    """Remove the launcher's frames from tracebacks of uncaught errors."""
    previous = sys.excepthook

    def show(kind, error: BaseException, trace: TracebackType | None) -> None:
        inner = trace
        while inner is not None and _is_launcher(inner):
            inner = inner.tb_next
        previous(kind, error.with_traceback(inner), inner)

    sys.excepthook = show


def _is_launcher(trace: TracebackType) -> bool:
    owner = str(trace.tb_frame.f_globals.get("__name__"))
    if owner == "runpy" or owner.startswith("sb_espnet_vq.launcher."):
        return True
    # In run.py __name__ is the program's, since it uses the same namespace.
    return trace.tb_frame.f_code.co_filename == _RUN_FILE
