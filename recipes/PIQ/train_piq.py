#!/usr/bin/env python3
"""Trains PIQ to show what a classifier listens to, and measures whether it is so.

> python recipes/PIQ/train_classifier.py hparams/PIQ/fsdd.yaml
> python recipes/PIQ/train_piq.py hparams/PIQ/fsdd.yaml
"""

import copy

from piq_brains import PIQBrain
from piq_data import check_settings, load_classifier, read_clips, section
from piq_evaluate import evaluate
from piq_report import write_report

from sb_espnet_vq.training.start import begin, run_recipe


def main(arguments):
    """Prepare, train, evaluate, report.

    Arguments
    ---------
    arguments : list[str]
        The hparams file and its overrides, as for any SpeechBrain recipe.
    """
    hparams, run_opts = begin(arguments, check_settings)
    load_classifier(hparams)
    datasets = read_clips(hparams)
    hparams = section(hparams, "piq")
    brain = PIQBrain(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    untrained = copy.deepcopy(hparams["interpreter"])
    brain.train(datasets)
    results = evaluate(brain, datasets, untrained)
    if results is not None:
        write_report(results, hparams["training_folder"])


if __name__ == "__main__":
    run_recipe(main)
