"""One run at a time in an output folder, by a lock of the operating system.

The kernel releases the lock when the process that holds it ends, however it ends, so
that a killed run stands in nobody's way. A shell takes it for itself with

    exec 9<>FOLDER/.lock && python -m sb_espnet_vq.run_lock 9 FOLDER [shared]
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
    """Claim a folder until this process ends or claims another one.

    Arguments
    ---------
    folder : str or Path
        Is made if it is missing.
    name : str
        Of the lock, a file in the folder that stays there.

    Raises
    ------
    ConfigError
        Another run is using the folder, or it cannot be written.
    """
    path = Path(folder) / name
    if _held and path.exists() and os.path.samefile(_held[0].name, path):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A link that somebody put here is not followed and written to.
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
    """Lock an open file and write into it who has it.

    Arguments
    ---------
    descriptor : int
        Of a file that is open for writing. It is locked as long as this process, or
        one that has inherited the descriptor, keeps it open.
    folder : str
        For the message.
    pid : int
        The process to name in it.
    shared : bool
        Whether others may have a shared lock beside this one.

    Raises
    ------
    ConfigError
        Another run has locked the file.
    """
    try:
        # Not on Windows, which has other locks.
        import fcntl

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
        raise ConfigError(
            f"{folder}: another run is using this folder: {holder or 'not known'} (or "
            "a process that it left behind). Wait for it to end, or choose another "
            "folder"
        ) from None
    except (ImportError, OSError) as error:
        # Some network file systems.
        logger.warning("%s: cannot be locked against a second run (%s)", folder, error)
        return
    now = datetime.datetime.now().isoformat(" ", "seconds")
    text = f"process {pid} on {socket.gethostname()}, started {now}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def _release() -> None:
    while _held:
        _held.pop().close()


# A worker that outlives a killed run for some seconds must not hold its lock.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release)


if __name__ == "__main__":
    number, place, *more = sys.argv[1:]
    try:
        take_lock(int(number), place, os.getppid(), shared=more == ["shared"])
    except ConfigError as in_use:
        sys.exit(f"error: {in_use}")
