"""Implementation of ``python -m sb_espnet_vq.run``: install plugins, run a program.

Without ``--swap``, which looks its quantizer up, it imports neither torch nor a toolkit
before the program does.
"""
