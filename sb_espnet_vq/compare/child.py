"""Runs a script in this process, which ends as soon as the parent process does.

    python -m sb_espnet_vq.compare.child SCRIPT [ARGUMENT ...]

Standard input is a pipe that the parent holds open. If the parent is killed, nothing
can terminate its children; they would go on in folders that its successor needs.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from pathlib import Path


def main(script: str, arguments: list[str]) -> None:
    """Run a script as ``python SCRIPT ARGUMENT ...`` would."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")


def _end_with_parent() -> None:
    # Not sys.stdin, whose lock Python would wait for at exit.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
