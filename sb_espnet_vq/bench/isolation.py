"""Runs functions in separate processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from sb_espnet_vq.bench.timing import one_line
from sb_espnet_vq.errors import ChildError


class Isolation:
    """Starts fresh processes with preloaded modules.

    Arguments
    ---------
    preload : sequence of str
        Modules to import once for all processes; failing imports are ignored.
    threads : int
        Number of threads, for libraries that read it from the environment.
    """

    def __init__(self, preload: Sequence[str], threads: int):
        methods = multiprocessing.get_all_start_methods()
        # A fork server imports the toolkits once; spawning would import them in each
        # process. The server has no threads, so forking is safe.
        method = "forkserver" if "forkserver" in methods else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload(list(preload))
        self._threads = threads

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what ``function(*args)`` returns in a new process.

        Arguments
        ---------
        function : callable
            A module-level function.
        *args
            Its arguments.

        Returns
        -------
        Any

        Raises
        ------
        ChildError
            If the function raised an error or its process ended; the message is one
            line.
        """
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_answer, args=(sender, function, args), daemon=True
        )
        with _environment(self._threads):
            process.start()
        sender.close()
        try:
            ok, value = receiver.recv()
        except EOFError:
            process.join()
            raise ChildError(_ending(process.exitcode)) from None
        finally:
            # Also after Ctrl-C, so that no process keeps running.
            if process.is_alive():
                process.join(timeout=1)
                process.kill()
            process.join()
            receiver.close()
        if not ok:
            raise ChildError(value)
        return value


def _answer(sender: Connection, function: Callable[..., Any], args: tuple) -> None:
    try:
        sender.send((True, function(*args)))
    except Exception as error:
        sender.send((False, one_line(error)))


def _ending(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "out of memory"
    return f"its process ended with status {code}"


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    values = dict.fromkeys(names, str(threads))
    # Toolkits ask for a GPU when they are imported. By default torch then initializes
    # CUDA, which processes forked from the server could not use.
    values["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
