"""The ``sbvq`` command: one module per subcommand."""
