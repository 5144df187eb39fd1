"""The command line of a recipe."""

from __future__ import annotations

from typing import Any

import speechbrain as sb

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.training.settings import split_arguments


def read_command_line(arguments: list[str]) -> tuple[str, Any, dict[str, Any]]:
    """Parse like SpeechBrain, but return the overrides as a mapping.

    Arguments
    ---------
    arguments : list[str]
        The hparams file, then SpeechBrain's options and overrides of the YAML.

    Returns
    -------
    file : str
        The hparams file.
    run_opts : dict
        SpeechBrain's run options.
    overrides : dict
        As `split_arguments` returns them.

    Raises
    ------
    ConfigError
        As in `split_arguments`, or if the first argument is not a file.
    """
    if not arguments or not {"-h", "--help"}.isdisjoint(arguments):
        sb.parse_arguments(["--help"])  # exits
    file, *rest = arguments
    if file.startswith("-"):
        raise ConfigError(f"the hparams file must come before all options, got {file}")
    _, defaults, _ = sb.parse_arguments([file])
    words, overrides = split_arguments(rest, defaults.keys())
    file, run_opts, unknown = sb.parse_arguments([file, *words])
    if unknown:
        raise ConfigError(f"{unknown.split(':')[0]} is not a command-line option")
    return file, run_opts, overrides
