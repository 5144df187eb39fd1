#!/usr/bin/env python3
"""Pretrains wav2vec 2.0 on any audio, and says on held-out speech what it has learnt.

> python recipes/wav2vec2/train.py hparams/wav2vec2/fsdd.yaml
> torchrun --nproc-per-node=2 recipes/wav2vec2/train.py hparams/wav2vec2/fsdd.yaml \
      --distributed_backend=gloo
"""

import copy

from wav2vec2_brain import Networks, Wav2Vec2Brain
from wav2vec2_evaluate import evaluate
from wav2vec2_report import write_report

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
    brain = Wav2Vec2Brain(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    untrained = copy.deepcopy(Networks(*(hparams[n] for n in Networks._fields)))
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
    if "stack" in hparams:
        width = ("n_mels * stack", hparams["n_mels"] * hparams["stack"])
    else:
        width = ("the last of extractor_channels", hparams["extractor_channels"][-1])
    if hparams["latent_dim"] != width[1]:
        raise ConfigError(
            f"latent_dim must be {width[0]} = {width[1]}, not {hparams['latent_dim']}"
        )
    layers = hparams["num_encoder_layers"]
    if hparams["probe_layer"] not in (-1, *range(1, layers + 1)):
        raise ConfigError(
            f"probe_layer must be 1 ... {layers} (num_encoder_layers), or -1 for the "
            f"encoder's output, not {hparams['probe_layer']}"
        )


if __name__ == "__main__":
    run_recipe(main)
