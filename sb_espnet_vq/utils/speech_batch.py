"""A batch of speech signals."""

from typing import NamedTuple

import torch


class SpeechBatch(NamedTuple):
    """Signals padded with zeros at the end.

    ids : ID of the first utterance of each row; signals : (B, samples) float32;
    samples : (B,) int64, number of valid samples of each row.
    """

    ids: list[str]
    signals: torch.Tensor
    samples: torch.Tensor
