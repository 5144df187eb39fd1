"""Batches with a given mean duration, for utterances of any length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from sb_espnet_vq.utils.speech_batch import SpeechBatch


class SecondsBatchSampler(Sampler):
    """Batch sampler that shuffles utterances into batches of a given mean duration.

    Every epoch has the same number of batches, as SpeechBrain's distributed wrapper
    requires. The numbers of utterances in the batches differ by at most one.

    Arguments
    ---------
    dataset : speechbrain.dataio.dataset.DynamicItemDataset
        Its rows contain a `duration` in seconds.
    seconds : float
        Upper bound on the mean duration of a batch, if it is not a single utterance.
    seed : int
        Seed and epoch determine the order.

    Example
    -------
    >>> class Rows:
    ...     data = {n: {"duration": 1.0} for n in range(10)}
    ...     data_ids = list(data)
    >>> sampler = SecondsBatchSampler(Rows(), seconds=3.0)
    >>> [len(batch) for batch in sampler]
    [2, 3, 2, 3]
    """

    def __init__(self, dataset: Any, seconds: float, seed: int = 0):
        # A filtered dataset keeps all rows and lists the remaining IDs.
        durations = [dataset.data[name]["duration"] for name in dataset.data_ids]
        self.size = len(durations)
        self.batches = min(self.size, max(1, math.ceil(sum(durations) / seconds)))
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.size, generator=generator).tolist()
        edges = [n * self.size // self.batches for n in range(self.batches + 1)]
        for start, end in zip(edges[:-1], edges[1:], strict=True):
            yield order[start:end]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the order.

        Arguments
        ---------
        epoch : int
            Equal epochs give equal orders.
        """
        self.epoch = epoch


class JoinShort:
    """Collate function that concatenates short utterances.

    Utterances of a batch are concatenated, in order, up to `join_seconds`; the result
    has the ID of the first one. A single short utterance gives too little context for
    masked prediction, and concatenation reduces padding.

    Arguments
    ---------
    sample_rate : int
        In Hz.
    join_seconds : float
        Maximum duration of a concatenation; 0 concatenates nothing. Longer
        utterances are not cut.

    Example
    -------
    >>> items = [{"id": f"u{n}", "sig": torch.ones(n)} for n in (2, 3, 4)]
    >>> batch = JoinShort(sample_rate=1, join_seconds=5.0)(items)
    >>> batch.ids, batch.samples.tolist(), batch.signals.shape
    (['u2', 'u4'], [5, 4], torch.Size([2, 5]))
    """

    def __init__(self, sample_rate: int, join_seconds: float = 0.0):
        self.limit = int(join_seconds * sample_rate)

    def __call__(self, items: Sequence[dict[str, Any]]) -> SpeechBatch:
        ids: list[str] = []
        rows: list[list[torch.Tensor]] = []
        filled = 0
        for item in items:
            signal = item["sig"]
            if not rows or filled + len(signal) > self.limit:
                ids.append(item["id"])
                rows.append([])
                filled = 0
            rows[-1].append(signal)
            filled += len(signal)
        joined = [torch.cat(row) for row in rows]
        signals = torch.nn.utils.rnn.pad_sequence(joined, batch_first=True)
        samples = torch.tensor([len(signal) for signal in joined])
        return SpeechBatch(ids, signals, samples)
