"""Startup of a recipe: hyperparameters, corpus and Brain."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import speechbrain as sb
from speechbrain.utils.distributed import run_on_main

from sb_espnet_vq.errors import CheckpointError, ConfigError, CorpusError
from sb_espnet_vq.training.command_line import read_command_line
from sb_espnet_vq.training.data import prepare
from sb_espnet_vq.training.evaluation import OPTION, begin_evaluation
from sb_espnet_vq.training.origin import write_origin
from sb_espnet_vq.training.settings import load_hparams
from sb_espnet_vq.utils.run_lock import lock_folder

Hparams = dict[str, Any]


def run_recipe(main: Callable[[list[str]], None]) -> None:
    """Run a recipe's ``main`` with the command line; print user errors as one line.

    Arguments
    ---------
    main : callable
        Function that takes the hparams file and its overrides.
    """
    try:
        main(sys.argv[1:])
    except (CheckpointError, ConfigError, CorpusError) as error:
        sys.exit(f"error: {error}")


def begin(
    arguments: list[str], check: Callable[[Hparams], None]
) -> tuple[Hparams, dict[str, Any]]:
    """Read the command line and YAML, create the output folder, prepare the corpus.

    Arguments
    ---------
    arguments : list[str]
        The hparams file and its overrides; or `--evaluate`, the folder of a run and
        options, as in `begin_evaluation`: the run is then evaluated and not trained.
    check : callable
        Raises an error for inconsistent hyperparameters, before anything is written.
        Defined in the folder of the recipe.

    Returns
    -------
    hparams : dict
        The loaded YAML.
    run_opts : dict
        SpeechBrain's run options, for the Brain.

    Raises
    ------
    ConfigError
        As in `read_command_line` and `load_hparams`, or if another run uses the folder.
    CorpusError
        As in `prepare_corpus`.
    """
    if arguments[:1] == [OPTION]:
        return begin_evaluation(arguments[1:], check)
    hparams_file, run_opts, overrides = read_command_line(arguments)
    sb.utils.distributed.ddp_init_group(run_opts)
    hparams = load_hparams(hparams_file, overrides, run_opts.keys())
    check(hparams)
    # The main process holds the lock for all ranks.
    run_on_main(lock_folder, args=[hparams["output_folder"]])
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    run_on_main(prepare, args=[hparams])
    run_on_main(write_origin, args=[hparams, check])
    return hparams, run_opts


def make_brain(brain_class: type, hparams: Hparams, run_opts: dict[str, Any]) -> Any:
    """Build a recipe's Brain from its YAML.

    Arguments
    ---------
    brain_class : type
        A subclass of `ResumableBrain`.
    hparams, run_opts : dict
        From `begin`.

    Returns
    -------
    ResumableBrain
    """
    return brain_class(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
