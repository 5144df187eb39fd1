#!/usr/bin/env python3
"""Pretrains BEST-RQ on any audio, and says on held-out speech what it has learnt.

> python recipes/BEST-RQ/train.py hparams/BEST-RQ/fsdd.yaml
> torchrun --nproc-per-node=2 recipes/BEST-RQ/train.py hparams/BEST-RQ/fsdd.yaml \
      --distributed_backend=gloo
"""

import copy
import difflib
import logging
import re
import sys
import time

import speechbrain as sb
from bestrq_brain import BestRQBrain
from bestrq_data import make_loader, read_datasets
from bestrq_evaluate import evaluate
from bestrq_report import write_report
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import run_on_main

from sb_espnet_vq.corpora import CorpusError, corpus_root, prepare_corpus
from sb_espnet_vq.lobes.checkpoints import CheckpointError

logger = logging.getLogger(__name__)


def main(arguments):
    """Prepare, train, evaluate, report.

    Arguments
    ---------
    arguments : list[str]
        The hparams file and its overrides, as for any SpeechBrain recipe.
    """
    hparams_file, run_opts, overrides = sb.parse_arguments(arguments)
    sb.utils.distributed.ddp_init_group(run_opts)
    hparams = load_hparams(hparams_file, overrides)
    check_settings(hparams)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    run_on_main(prepare, args=[hparams])
    datasets = read_datasets(hparams, corpus_root(**source(hparams)))
    brain = BestRQBrain(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    if brain.optimizer_step_limit is not None:
        # From the command line, SpeechBrain gives this option as a text.
        brain.optimizer_step_limit = int(brain.optimizer_step_limit)
    untrained = copy.deepcopy((hparams["CNN"], hparams["wrapper"]))
    train(brain, datasets)
    results = evaluate(brain, datasets, untrained)
    if results is not None:
        write_report(results, hparams["output_folder"])


def load_hparams(path, overrides):
    """Load the YAML; an override that it does not have is an error that says so.

    Arguments
    ---------
    path : str
        The hparams file.
    overrides : dict
        From the command line.

    Returns
    -------
    dict
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
        raise CorpusError(f"--{key}: {path} has no such key{hint}") from None
    except ValueError as error:
        if "!PLACEHOLDER" not in str(error):
            raise
        raise CorpusError(f"{path}: {error}") from None


def check_settings(hparams):
    """Refuse now what would fail hours later, or fail in words of another place.

    Arguments
    ---------
    hparams : dict
        From the YAML.
    """
    stack, length = hparams["pad_to_divisible_by"], hparams["mask_length"]
    if length < stack or length % stack:
        raise CorpusError(
            f"mask_length must be a multiple of pad_to_divisible_by ({stack}), "
            f"not {length}: labels are given to whole stacks"
        )
    wide = hparams["n_mels"] * stack
    if hparams["p_input"] != wide:
        raise CorpusError(
            f"p_input must be n_mels * pad_to_divisible_by = {wide}, the width of a "
            f"stack, not {hparams['p_input']}"
        )
    layers = hparams["num_encoder_layers"]
    if not -1 <= hparams["probe_layer"] <= layers:
        raise CorpusError(
            f"probe_layer must be in -1 ... {layers} (num_encoder_layers), not "
            f"{hparams['probe_layer']}"
        )


def prepare(hparams):
    """Write train.csv, valid.csv and test.csv into the output folder.

    Arguments
    ---------
    hparams : dict
        From the YAML. `train_splits`, `dev_splits` and `test_splits` name the
        subfolders of a folder that is split already.
    """
    subfolders = None
    if hparams.get("train_splits"):
        names = ("train_splits", "dev_splits", "test_splits")
        parts = ("train", "valid", "test")
        subfolders = {p: hparams[n] for p, n in zip(parts, names, strict=True)}
    prepare_corpus(
        hparams["output_folder"],
        **source(hparams),
        held_out=tuple(hparams["held_out"]),
        seed=hparams["seed"],
        subfolders=subfolders,
    )


def source(hparams):
    """Where the audio comes from.

    Arguments
    ---------
    hparams : dict
        From the YAML.

    Returns
    -------
    dict
        Arguments of `prepare_corpus` and of `corpus_root`.
    """
    names = ("data_folder", "manifest", "cache_folder", "sample_rate")
    return {name: hparams[name] for name in names}


def train(brain, datasets):
    """Train for the epochs that are left.

    Arguments
    ---------
    brain : BestRQBrain
        Restores its latest checkpoint first.
    datasets : dict[str, DynamicItemDataset]
        train and valid are used.
    """
    hparams = vars(brain.hparams)
    sampler = hparams["train_batches"](datasets["train"])
    options = hparams["train_dataloader_options"] | {
        "batch_sampler": sampler,
        "collate_fn": hparams["collate"],
    }
    loader = brain.make_dataloader(datasets["train"], sb.Stage.TRAIN, **options)
    if brain.train_sampler is None:
        # Otherwise SpeechBrain tells only distributed samplers the epoch.
        brain.train_sampler = sampler
    brain.steps_per_epoch = len(loader)
    brain.total_steps = total_steps(brain)
    brain.plain_train_batches = make_loader(datasets["train"], hparams)
    started = time.monotonic(), time.process_time()
    brain.fit(
        brain.hparams.epoch_counter,
        loader,
        make_loader(datasets["valid"], hparams),
        progressbar=False,
    )
    brain.seconds = {
        "wall": time.monotonic() - started[0],
        "cpu": time.process_time() - started[1],
    }


def total_steps(brain):
    """Optimizer steps of the whole run, by epochs or by their limit.

    Arguments
    ---------
    brain : BestRQBrain
        Knows its steps per epoch.

    Returns
    -------
    int
    """
    batches = brain.steps_per_epoch * brain.hparams.number_of_epochs
    steps = max(1, batches // brain.grad_accumulation_factor)
    limit = brain.optimizer_step_limit
    return steps if limit is None else min(steps, limit)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (CorpusError, CheckpointError) as error:
        sys.exit(f"error: {error}")
