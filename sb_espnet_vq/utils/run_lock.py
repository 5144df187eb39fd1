"""Output folders locked to one run at a time, by a lock of the operating system.

The kernel releases the lock when the process that holds it ends for any reason, so that
a killed run does not block later ones. A shell takes the lock with

    exec 9<>FOLDER/.lock && python -m sb_espnet_vq.utils.run_lock 9 FOLDER [shared]
"""

from __future__ import annotations

import datetime
import logging
import os
import socket
import sys
from pathlib import Path
from typing import IO

from sb_espnet_vq.errors import ConfigError

logger = logging.getLogger(__name__)

LOCK = ".lock"

# The lock of this process, open as long as it is held.
_held: list[IO[str]] = []


def lock_folder(folder: str | Path, name: str = LOCK) -> None:
    """Lock a folder until this process ends or locks another one.

    Arguments
    ---------
    folder : str or Path
        Created if missing.
    name : str
        Name of the lock file, which stays in the folder.

    Raises
    ------
    ConfigError
        Another run uses the folder, or the folder is not writable.
    """
    path = Path(folder) / name
    if _held and path.exists() and os.path.samefile(_held[0].name, path):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Symbolic links are not followed, so that no other file is overwritten.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        file = open(os.open(path, flags, 0o666), "a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from None
    try:
        take_lock(file.fileno(), str(folder), os.getpid())
    except ConfigError:
        file.close()
        raise
    _release()
    _held.append(file)


def take_lock(descriptor: int, folder: str, pid: int, shared: bool = False) -> None:
    """Lock an open file and write the lock's holder into it.

    Arguments
    ---------
    descriptor : int
        Descriptor of a file open for writing. The file stays locked while this process,
        or one that inherited the descriptor, keeps it open.
    folder : str
        Name of the folder in error messages.
    pid : int
        Process to name in the file.
    shared : bool
        Whether other processes may hold a shared lock at the same time.

    Raises
    ------
    ConfigError
        Another run has locked the file.
    """
    try:
        # Not available on Windows.
        import fcntl

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
        raise ConfigError(
            f"{folder}: another run is using this folder: {holder or 'unknown'} (or "
            "a child process that is still running). Wait until it ends, or choose "
            "another folder"
        ) from None
    except (ImportError, OSError) as error:
        # On Windows and some network file systems.
        logger.warning("%s: cannot be locked against a second run (%s)", folder, error)
        return
    now = datetime.datetime.now().isoformat(" ", "seconds")
    text = f"process {pid} on {socket.gethostname()}, started {now}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def _release() -> None:
    while _held:
        _held.pop().close()


# A forked worker that outlives a killed run must not keep the lock.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release)


if __name__ == "__main__":
    number, folder, *more = sys.argv[1:]
    try:
        take_lock(int(number), folder, os.getppid(), shared=more == ["shared"])
    except ConfigError as in_use:
        sys.exit(f"error: {in_use}")
