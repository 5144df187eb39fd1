#!/usr/bin/env python3
"""Pretrains BEST-RQ on any audio, and says on held-out speech what it has learnt.

> python recipes/BEST-RQ/train.py hparams/BEST-RQ/fsdd.yaml
> torchrun --nproc-per-node=2 recipes/BEST-RQ/train.py hparams/BEST-RQ/fsdd.yaml \
      --distributed_backend=gloo
"""

import copy

from bestrq_brain import BestRQBrain
from bestrq_evaluate import evaluate
from bestrq_report import write_report

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.training.data import read_datasets
from sb_espnet_vq.training.start import begin, run_recipe


def main(arguments):
    """Prepare, train, evaluate, report.

    Arguments
    ---------
    arguments : list[str]
        The hparams file and its overrides, as for any SpeechBrain recipe.
    """
    hparams, run_opts = begin(arguments, check_settings)
    datasets = read_datasets(hparams)
    brain = BestRQBrain(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    untrained = copy.deepcopy((hparams["CNN"], hparams["wrapper"]))
    brain.train(datasets)
    results = evaluate(brain, datasets, untrained)
    if results is not None:
        write_report(results, hparams["output_folder"])


def check_settings(hparams):
    """Refuse now what would fail hours later, or fail in words of another place.

    Arguments
    ---------
    hparams : dict
        From the YAML.
    """
    stack, length = hparams["pad_to_divisible_by"], hparams["mask_length"]
    if length < stack or length % stack:
        raise ConfigError(
            f"mask_length must be a multiple of pad_to_divisible_by ({stack}), "
            f"not {length}: labels are given to whole stacks"
        )
    wide = hparams["n_mels"] * stack
    if hparams["p_input"] != wide:
        raise ConfigError(
            f"p_input must be n_mels * pad_to_divisible_by = {wide}, the width of a "
            f"stack, not {hparams['p_input']}"
        )
    layers = hparams["num_encoder_layers"]
    if not -1 <= hparams["probe_layer"] <= layers:
        raise ConfigError(
            f"probe_layer must be in -1 ... {layers} (num_encoder_layers), not "
            f"{hparams['probe_layer']}"
        )


if __name__ == "__main__":
    run_recipe(main)
