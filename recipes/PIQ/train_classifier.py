#!/usr/bin/env python3
"""Trains a classifier of sounds, which train_piq.py then explains.

> python recipes/PIQ/train_classifier.py hparams/PIQ/fsdd.yaml
"""

from piq_brains import ClassifierBrain
from piq_data import check_settings, note_settings, read_clips, section
from piq_evaluate import evaluate_classifier
from piq_report import write_classifier_report
from speechbrain.utils.distributed import run_on_main

from sb_espnet_vq.training.start import begin, run_recipe


def main(arguments):
    """Prepare, train, evaluate, report.

    Arguments
    ---------
    arguments : list[str]
        The hparams file and its overrides, as for any SpeechBrain recipe.
    """
    hparams, run_opts = begin(arguments, check_settings)
    datasets = read_clips(hparams)
    run_on_main(note_settings, args=[hparams])
    hparams = section(hparams, "classifier")
    brain = ClassifierBrain(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.train(datasets)
    results = evaluate_classifier(brain, datasets)
    if results is not None:
        write_classifier_report(results, hparams["training_folder"])


if __name__ == "__main__":
    run_recipe(main)
