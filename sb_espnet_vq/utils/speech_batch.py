"""A batch of speech signals."""

from typing import NamedTuple

import torch


class SpeechBatch(NamedTuple):
    """Signals side by side, padded with zeros at the end.

    ids : name of each row, that of its first utterance; signals : (B, samples)
    float32; samples : (B,) int64, the real length of each row.
    """

    ids: list[str]
    signals: torch.Tensor
    samples: torch.Tensor
