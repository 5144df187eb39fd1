"""Dataset splits and data loaders of a recipe."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import speechbrain as sb
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.dataio.dataset import DynamicItemDataset

from sb_espnet_vq.corpora import (
    audio_path,
    corpus_root,
    prepare_corpus,
    read_audio,
    read_rows,
)
from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.training.batches import JoinShort
from sb_espnet_vq.utils.speech_batch import SpeechBatch

logger = logging.getLogger(__name__)

PARTS = ("train", "valid", "test")


def prepare(hparams: dict[str, Any]) -> None:
    """Write train.csv, valid.csv and test.csv into the output folder.

    Arguments
    ---------
    hparams : dict
        From the YAML. `train_splits`, `dev_splits` and `test_splits` name the
        subfolders of a folder that is already split; `train_folds` and `test_folds`
        name the folds of a corpus with predefined folds.
    """
    subfolders = None
    if hparams.get("train_splits"):
        names = ("train_splits", "dev_splits", "test_splits")
        subfolders = {p: hparams[n] for p, n in zip(PARTS, names, strict=True)}
    folds = None
    if hparams.get("train_folds") or hparams.get("test_folds"):
        folds = {p: hparams[f"{p}_folds"] or () for p in ("train", "test")}
    prepare_corpus(
        hparams["output_folder"],
        **source_of(hparams),
        held_out=tuple(hparams["held_out"]),
        seed=hparams["seed"],
        subfolders=subfolders,
        folds=folds,
        esc10_only=hparams.get("esc10_only", False),
    )


def read_datasets(hparams: dict[str, Any]) -> dict[str, DynamicItemDataset]:
    """Read the three manifests.

    Arguments
    ---------
    hparams : dict
        From the YAML; the key `collate` is set to the collate function.

    Returns
    -------
    dict[str, DynamicItemDataset]
        train (without utterances that are too long or too short), valid, test.

    Raises
    ------
    CorpusError
        If no training utterance has a valid duration.
    """
    rate = hparams["sample_rate"]
    hparams["collate"] = JoinShort(rate, hparams.get("join_seconds", 0.0))

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("sig")
    def audio(wav):
        return read_audio(wav, rate)

    root, datasets = corpus_root(**source_of(hparams)), {}
    for part in PARTS:
        path = Path(hparams["output_folder"], f"{part}.csv")
        # Not `from_csv`, which treats every `$` in a name as a variable.
        data = DynamicItemDataset(
            {
                row.pop("ID"): row
                | {
                    "duration": float(row["duration"]),
                    "wav": str(audio_path(row["wav"], root)),
                }
                for row in read_rows(path)
            }
        )
        data.add_dynamic_item(audio)
        data.set_output_keys(["id", "sig"])
        datasets[part] = data
    datasets["train"] = _of_fit_length(datasets["train"], hparams)
    return datasets


def make_loader(
    dataset: DynamicItemDataset,
    hparams: dict[str, Any],
    collate: Callable[..., Any] | None = None,
) -> SaveableDataLoader:
    """Return a loader of evaluation batches, in the order of the manifest.

    Arguments
    ---------
    dataset : DynamicItemDataset
        The train, valid or test set.
    hparams : dict
        From the YAML.
    collate : callable, optional
        Collate function. Default: that of training.

    Returns
    -------
    SaveableDataLoader
    """
    return SaveableDataLoader(
        dataset,
        collate_fn=collate or hparams["collate"],
        **hparams["test_dataloader_options"],
    )


def make_labelled_loader(
    dataset: DynamicItemDataset, hparams: dict[str, Any]
) -> tuple[list[str], Iterable[SpeechBatch]]:
    """Return the labels of all labelled utterances, and batches of these.

    Arguments
    ---------
    dataset : DynamicItemDataset
        The train, valid or test set.
    hparams : dict
        From the YAML.

    Returns
    -------
    labels : list[str]
        In the order of the manifest.
    batches : Iterable[SpeechBatch]
        In the same order; each row is one utterance.
    """
    labelled = dataset.filtered_sorted(key_test={"label": bool})
    labels = [labelled.data[name]["label"] for name in labelled.data_ids]
    if not labels:
        return labels, ()
    return labels, make_loader(labelled, hparams, JoinShort(hparams["sample_rate"]))


def source_of(hparams: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `prepare_corpus` and `corpus_root` for the source.

    Arguments
    ---------
    hparams : dict
        From the YAML.

    Returns
    -------
    dict
    """
    names = ("data_folder", "manifest", "cache_folder", "sample_rate")
    return {name: hparams[name] for name in names}


def _of_fit_length(
    dataset: DynamicItemDataset, hparams: dict[str, Any]
) -> DynamicItemDataset:
    shortest = hparams["avoid_if_shorter_than"]
    longest = hparams["avoid_if_longer_than"]
    fit = dataset.filtered_sorted(
        key_min_value={"duration": shortest}, key_max_value={"duration": longest}
    )
    dropped = len(dataset) - len(fit)
    if not len(fit):
        raise CorpusError(
            f"none of the {len(dataset)} training utterances lasts between {shortest} "
            f"and {longest} s (avoid_if_shorter_than, avoid_if_longer_than)"
        )
    if dropped:
        logger.warning(
            "%d of %d training utterances are skipped: not between %g and %g s",
            dropped,
            len(dataset),
            shortest,
            longest,
        )
    return fit
