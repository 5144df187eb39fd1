"""Masks, batches and checkpoints that recipes share."""

import errno

import pytest
import torch

from sb_espnet_vq.ssl.span_masks import span_masks
from sb_espnet_vq.training.batches import JoinShort, SecondsBatchSampler

speechbrain = pytest.importorskip("speechbrain")


def keys(count):
    return [f"key {n}" for n in range(count)]


def test_masks_stay_inside_each_utterance_and_leave_something_to_see():
    lengths = [0, 1, 2, 3, 5, 40, 100] * 30
    for prob, span in [(0.0, 1), (0.1, 2), (0.6, 1), (0.3, 200), (1.0, 4)]:
        masks = span_masks(lengths, keys(len(lengths)), prob, span, total=110)
        assert masks.shape == (len(lengths), 110)
        for mask, length in zip(masks, lengths, strict=True):
            assert not mask[length:].any()
            real = int(mask[:length].sum())
            assert (1 <= real < length) if length >= 2 else real == 0


def test_the_masked_share_is_that_of_overlapping_spans():
    masks = span_masks([1000] * 50, keys(50), start_prob=0.1, span=2)
    assert float(masks.float().mean()) == pytest.approx(1 - 0.9**2, abs=0.01)
    edges = (masks[:, 1:] & ~masks[:, :-1]).sum()
    assert float(masks.sum() / edges) > 2


def test_a_mask_depends_on_its_key_and_length_alone():
    alone = span_masks([30], ["a"], 0.2, 3)[0]
    state = torch.get_rng_state()
    batch = span_masks([12, 30, 50], ["b", "a", "c"], 0.2, 3)
    assert torch.equal(batch[1, :30], alone)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(span_masks([30], ["other"], 0.2, 3)[0], alone)


def test_wrong_mask_settings_are_refused():
    with pytest.raises(ValueError, match="start_prob must be in"):
        span_masks([3], ["a"], 1.2, 1)
    with pytest.raises(ValueError, match="span must be at least 1"):
        span_masks([3], ["a"], 0.2, 0)


class Rows:
    def __init__(self, durations):
        self.data = {f"u{n}": {"duration": d} for n, d in enumerate(durations)}
        # As a filtered dataset has it: a row that is not used is still there.
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


def test_utterances_longer_than_a_batch_still_make_batches():
    sampler = SecondsBatchSampler(Rows([50.0, 60.0]), seconds=3.0)
    assert sorted(map(tuple, sampler)) == [(0,), (1,)]


def items(*lengths):
    return [{"id": f"u{n}", "sig": torch.full((n,), float(n))} for n in lengths]


def test_short_utterances_are_joined_and_long_ones_kept_whole():
    batch = JoinShort(10, 1.0)(items(4, 5, 3, 12, 1, 9))
    assert batch.ids == ["u4", "u3", "u12", "u1"]
    assert batch.samples.tolist() == [9, 3, 12, 10]
    assert batch.signals[0].tolist() == [4.0] * 4 + [5.0] * 5 + [0.0] * 3
    alone = JoinShort(10)(items(4, 5))
    assert alone.samples.tolist() == [4, 5]


def test_the_inverse_root_schedule_is_speechbrains_noam():
    from speechbrain.nnet.schedulers import NoamScheduler

    from sb_espnet_vq.training.schedules import WarmupDecay

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    noam = NoamScheduler(lr_initial=0.0008, n_warmup_steps=25)
    ours = WarmupDecay(peak=0.0008, warmup_steps=25, decay="inverse_sqrt")
    for step in range(1, 80):
        _, theirs = noam(optimizer)
        ours.apply(optimizer, step, total=80)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(theirs)


def test_the_linear_schedule_ends_at_zero_and_an_unknown_one_is_refused():
    from sb_espnet_vq.errors import ConfigError
    from sb_espnet_vq.training.schedules import WarmupDecay

    schedule = WarmupDecay(peak=2.0, warmup_steps=4, decay="linear")
    rates = [schedule.rate(step, total=8) for step in range(1, 9)]
    assert rates == [0.4375, 0.75, 0.9375, 1.0, 0.75, 0.5, 0.25, 0.0]
    with pytest.raises(ConfigError, match="'cosine'"):
        WarmupDecay(peak=1.0, warmup_steps=1, decay="cosine")


def checkpointer(folder, model):
    from sb_espnet_vq.training.checkpoints import TrainingRecord, WholeCheckpointer

    recoverables = {"model": model, "record": TrainingRecord()}
    return WholeCheckpointer(folder, recoverables)


def fill(model, value):
    with torch.no_grad():
        model.weight.fill_(value)


def test_a_checkpoint_restores_weights_and_record(tmp_path):
    model = torch.nn.Linear(2, 2)
    saver = checkpointer(tmp_path, model)
    record = saver.recoverables["record"]
    record.close_epoch(loss=1.5)
    record.add(frames=torch.tensor(3), counts=torch.tensor([1, 2]))
    fill(model, 7.0)
    saver.save_checkpoint(end_of_epoch=False)
    other = torch.nn.Linear(2, 2)
    loader = checkpointer(tmp_path, other)
    assert loader.recover_if_possible() is not None
    assert torch.equal(other.weight, model.weight)
    restored = loader.recoverables["record"]
    assert restored.epochs == [{"loss": 1.5}]
    restored.add(frames=torch.tensor(1), counts=torch.tensor([0, 1]))
    assert restored.totals()["frames"] == 4
    assert restored.totals()["counts"].tolist() == [1.0, 3.0]


def test_evaluation_loads_the_best_checkpoint_not_the_latest(tmp_path):
    from sb_espnet_vq.training.brain import ResumableBrain

    model = torch.nn.Linear(2, 2)
    saver, options = checkpointer(tmp_path, model), {"device": "cpu"}
    brain = ResumableBrain({"model": model}, run_opts=options, checkpointer=saver)
    for epoch, loss in ((1, 0.3), (2, 0.1), (3, 0.2)):
        fill(model, float(epoch))
        saver.save_checkpoint(meta={"loss": loss, "epoch": epoch})
    brain.on_evaluate_start()
    assert model.weight.unique().tolist() == [2.0]
    brain.on_evaluate_start(max_key="loss")
    assert model.weight.unique().tolist() == [1.0]


def fail_after(monkeypatch, calls, error):
    """Let `torch.save` fail the way it does on a full disk."""
    save = torch.save

    def failing(obj, path):
        if calls:
            calls.pop()
            return save(obj, path)
        with open(path, "wb") as file:
            file.write(b"half a file")
        raise error

    monkeypatch.setattr(torch, "save", failing)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0"),
    ],
)
def test_a_full_disk_leaves_the_previous_checkpoint_and_says_so(
    tmp_path, monkeypatch, error
):
    from sb_espnet_vq.errors import CheckpointError

    model = torch.nn.Linear(2, 2)
    saver = checkpointer(tmp_path, model)
    fill(model, 1.0)
    saver.save_and_keep_only()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    fill(model, 2.0)
    fail_after(monkeypatch, calls=[1], error=error)
    with pytest.raises(CheckpointError, match=r"(?s)could not be saved.*untouched"):
        saver.save_and_keep_only()
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    checkpointer(tmp_path, model).recover_if_possible()
    assert model.weight.unique().tolist() == [1.0]


def test_a_kill_while_saving_or_deleting_leaves_no_broken_checkpoint(
    tmp_path, monkeypatch
):
    model = torch.nn.Linear(2, 2)
    saver = checkpointer(tmp_path, model)
    fill(model, 1.0)
    saver.save_checkpoint(name="first")
    fill(model, 2.0)
    saver.save_checkpoint(name="second")
    # Killed while deleting the second: a file is gone, the folder is not.
    (tmp_path / "CKPT+second/record.ckpt").unlink()
    # Killed while saving the third: no exception handler ran.
    fill(model, 3.0)
    with monkeypatch.context() as patch:
        fail_after(patch, calls=[], error=SystemExit())
        with pytest.raises(SystemExit):
            saver.save_checkpoint(name="third")
    assert (tmp_path / "saving-CKPT+third").exists()
    loader = checkpointer(tmp_path, model)
    assert loader.recover_if_possible().path.name == "CKPT+first"
    assert model.weight.unique().tolist() == [1.0]
    loader.save_checkpoint(name="fourth")
    assert not (tmp_path / "saving-CKPT+third").exists()
