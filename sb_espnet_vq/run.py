"""``python -m sb_espnet_vq.run (-m MODULE | SCRIPT) ARGS...``: the launcher.

It runs a program as Python does, with the plugins of all installed packages; see
docs/launcher.md.

This file contains only what must run at the top level of the main module. Python runs
it as ``__main__``; a process spawned by ``multiprocessing`` imports it again as
``__mp_main__`` and thus gets the same plugins. Imported under its own name it does
nothing.
"""

from sb_espnet_vq.launcher import start

# The program replaces the content of this module, so nothing may follow these calls.
if __name__ == "__main__":
    start.as_command(globals())
elif __name__ == "__mp_main__":
    start.as_worker(globals())
