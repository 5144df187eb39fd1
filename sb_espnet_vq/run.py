"""``python -m sb_espnet_vq.run (-m MODULE | SCRIPT) ARGS...``: the launcher.

It runs a program as Python would, with the plugins of every installed package in
place. docs/launcher.md tells how to use it.

Here is only what must happen at the top level of this very file. Python runs it as
``__main__``; a process that ``multiprocessing`` spawns imports it again, as
``__mp_main__``, and so gets the same plugins. Imported under its own name it does
nothing.
"""

from sb_espnet_vq.launcher import start

# The program takes this module's place, so nothing may follow these calls.
if __name__ == "__main__":
    start.as_command(globals())
elif __name__ == "__mp_main__":
    start.as_worker(globals())
