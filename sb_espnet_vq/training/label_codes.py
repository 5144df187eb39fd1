"""Label purity of the codes of a recipe on test speech."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sb_espnet_vq.evaluation.label_purity import compare_with_shuffled
from sb_espnet_vq.training.data import make_labelled_loader
from sb_espnet_vq.utils.speech_batch import SpeechBatch

# Name of some codes to those of each row of a batch, (T, K) int64.
Codes = dict[str, list[torch.Tensor]]


@torch.no_grad()
def label_purity(
    dataset: Any, encode: Callable[[SpeechBatch], Codes], hparams: dict[str, Any]
) -> dict[str, Any]:
    """Compare the codes of utterances with their labels.

    Arguments
    ---------
    dataset : DynamicItemDataset
        Test speech.
    encode : callable
        Computes the codes of each utterance of a batch, without those of padding.
    hparams : dict
        From the YAML.

    Returns
    -------
    dict
        `classes`; `utterances`, their number; `rows`, as `compare_with_shuffled`
        returns it, by the name of the codes. With fewer than two labels, `rows` is
        empty and `left_out` says why.
    """
    labels, batches = make_labelled_loader(dataset, hparams)
    codes: Codes = {}
    for batch in batches:
        for name, rows in encode(batch).items():
            codes.setdefault(name, []).extend(row.cpu() for row in rows)
    # Utterances that are too short have no code.
    coded = [
        n
        for n in range(len(labels))
        if all(bool((c[n] >= 0).any()) for c in codes.values())
    ]
    labels = [labels[n] for n in coded]
    codes = {name: [rows[n] for n in coded] for name, rows in codes.items()}
    classes = sorted(set(labels))
    if len(classes) < 2:
        reason = (
            f"the test utterances have {len(classes)} different labels (column label "
            "of the manifest), at least 2 are needed"
        )
        return {"classes": classes, "rows": {}, "left_out": reason}
    return {
        "classes": classes,
        "utterances": len(labels),
        "rows": {name: compare_with_shuffled(labels, c) for name, c in codes.items()},
    }
