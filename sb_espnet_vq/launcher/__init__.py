"""What ``python -m sb_espnet_vq.run`` does: plugins first, then the program.

Nothing here imports torch or a toolkit before the program does, save that a ``--swap``
looks its quantizer up.
"""
