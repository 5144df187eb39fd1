#!/usr/bin/env python3
"""Trains a codec on any audio, and says on held-out speech what each bandwidth gives.

> python recipes/codec/train.py hparams/codec/fsdd.yaml
> python recipes/codec/train.py hparams/codec/fsdd.yaml --quantizer bsq
"""

import copy

from codec_brain import CodecBrain
from codec_evaluate import evaluate
from codec_report import write_report

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
    brain = CodecBrain(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    untrained = copy.deepcopy(hparams["codec"])
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
    codec = hparams["codec"]
    if hparams["segment_seconds"] * hparams["sample_rate"] < codec.hop:
        raise ConfigError(
            f"segment_seconds {hparams['segment_seconds']} is shorter than a frame of "
            f"{codec.hop} samples (the product of ratios)"
        )


if __name__ == "__main__":
    run_recipe(main)
