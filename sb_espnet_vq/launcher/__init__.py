"""Implementation of ``python -m sb_espnet_vq.run``: install plugins, run a program.

It imports neither torch nor a toolkit before the program does, except with ``--swap``,
which looks up its quantizer.
"""
