"""The ``sbvq`` command: one file a sub-command."""
