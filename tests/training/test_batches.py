"""Batches of a given duration of speech."""

import pytest
import torch

from sb_espnet_vq.training.batches import JoinShort, SecondsBatchSampler


class Rows:
    def __init__(self, durations):
        self.data = {f"u{n}": {"duration": d} for n, d in enumerate(durations)}
        # A filtered dataset still contains unused rows.
        self.data_ids = list(self.data)
        self.data["left out"] = {"duration": 1000.0}


@pytest.mark.parametrize(("count", "batches"), [(1, 1), (7, 3), (100, 34)])
def test_every_epoch_has_the_same_number_of_batches_and_all_utterances(count, batches):
    sampler = SecondsBatchSampler(Rows([1.0] * count), seconds=3.0, seed=5)
    orders = []
    for epoch in (1, 2, 1):
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        assert len(drawn) == len(sampler) == batches
        assert all(drawn)
        orders.append(sum(drawn, []))
        assert sorted(orders[-1]) == list(range(count))
    assert orders[0] == orders[2]
    assert count == 1 or orders[0] != orders[1]


def test_utterances_longer_than_a_batch_form_batches():
    sampler = SecondsBatchSampler(Rows([50.0, 60.0]), seconds=3.0)
    assert sorted(map(tuple, sampler)) == [(0,), (1,)]


def items(*lengths):
    return [{"id": f"u{n}", "sig": torch.full((n,), float(n))} for n in lengths]


def test_short_utterances_are_concatenated_and_long_ones_kept():
    batch = JoinShort(10, 1.0)(items(4, 5, 3, 12, 1, 9))
    assert batch.ids == ["u4", "u3", "u12", "u1"]
    assert batch.samples.tolist() == [9, 3, 12, 10]
    assert batch.signals[0].tolist() == [4.0] * 4 + [5.0] * 5 + [0.0] * 3
    alone = JoinShort(10)(items(4, 5))
    assert alone.samples.tolist() == [4, 5]
