"""The beginning of a recipe: its hyperparameters read and checked, its corpus split."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable
from typing import Any

import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import run_on_main

from sb_espnet_vq.corpora import CorpusError
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.lobes.checkpoints import CheckpointError
from sb_espnet_vq.training.data import prepare

Hparams = dict[str, Any]


def run_recipe(main: Callable[[list[str]], None]) -> None:
    """Run a recipe's ``main`` with the command line; a user's error ends in one line.

    Arguments
    ---------
    main : callable
        Takes the hparams file and its overrides, as for any SpeechBrain recipe.
    """
    try:
        main(sys.argv[1:])
    except (CheckpointError, ConfigError, CorpusError) as error:
        sys.exit(f"error: {error}")


def begin(
    arguments: list[str], check: Callable[[Hparams], None]
) -> tuple[Hparams, dict[str, Any]]:
    """Read the command line and the YAML, make the output folder, prepare the corpus.

    Arguments
    ---------
    arguments : list[str]
        The hparams file and its overrides.
    check : callable
        Refuses hyperparameters that cannot work, before anything is written.

    Returns
    -------
    hparams : dict
        Of the YAML.
    run_opts : dict
        SpeechBrain's own options, for the Brain.

    Raises
    ------
    ConfigError
        A key that the YAML does not have, or a value that must be given.
    CorpusError
        As `prepare_corpus`.
    """
    hparams_file, run_opts, overrides = sb.parse_arguments(arguments)
    sb.utils.distributed.ddp_init_group(run_opts)
    hparams = load_hparams(hparams_file, overrides)
    check(hparams)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    run_on_main(prepare, args=[hparams])
    return hparams, run_opts


def load_hparams(path: str, overrides: Any) -> Hparams:
    """Load the YAML; an override that it does not have is an error that says so.

    Arguments
    ---------
    path : str
        The hparams file.
    overrides : dict or str
        From the command line.

    Returns
    -------
    dict

    Raises
    ------
    ConfigError
        A key that the YAML does not have, or a value that must be given.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return load_hyperpyyaml(file, overrides)
    except KeyError as error:
        unknown = re.search(r"Override '([^']+)' not found in: (.*)", str(error))
        if unknown is None:
            raise
        key, known = unknown.groups()
        near = difflib.get_close_matches(key, re.findall(r"'(\w+)'", known))
        hint = f"; did you mean --{' or --'.join(near)}?" if near else ""
        raise ConfigError(f"--{key}: {path} has no such key{hint}") from None
    except ValueError as error:
        if "!PLACEHOLDER" not in str(error):
            raise
        raise ConfigError(f"{path}: {error}") from None
