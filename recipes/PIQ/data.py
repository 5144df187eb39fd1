"""Datasets of labelled audio clips."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.training.data import PARTS, read_datasets
from sb_espnet_vq.utils.files import write_text
from sb_espnet_vq.utils.speech_batch import SpeechBatch

CLASSES = "classes.json"


def read_clips(hparams: dict[str, Any]) -> dict[str, Any]:
    """Read train, valid and test, and number the classes.

    Adds to `hparams`: `classes`, the class names, and `label_of`, the class number of
    each clip.

    Raises
    ------
    CorpusError
        If a clip has no label, or the number of classes is not n_classes.
    """
    datasets = read_datasets(hparams)
    labels: dict[str, str] = {}
    for part in PARTS:
        data = datasets[part].data
        labels |= {name: data[name]["label"] for name in datasets[part].data_ids}
    unknown = [name for name, label in labels.items() if not label]
    if unknown:
        raise CorpusError(
            f"{len(unknown)} of {len(labels)} clips have no label, the first is "
            f"{unknown[0]}; a classifier needs a manifest with a column label"
        )
    classes = sorted(set(labels.values()))
    if len(classes) != hparams["n_classes"]:
        raise CorpusError(
            f"the corpus has {len(classes)} classes ({', '.join(classes[:5])}, ...), "
            f"n_classes is {hparams['n_classes']}; give --n_classes {len(classes)}"
        )
    hparams["classes"] = classes
    hparams["label_of"] = {n: classes.index(label) for n, label in labels.items()}
    write_text(Path(hparams["output_folder"], CLASSES), json.dumps(classes) + "\n")
    return datasets


def labels_of(batch: SpeechBatch, hparams: Mapping[str, Any]) -> torch.Tensor:
    """Return the class of each clip, (B,) int64; call `read_clips` first."""
    return torch.tensor([hparams["label_of"][name] for name in batch.ids])
