"""Checkpoints are complete and written atomically."""

import errno

import pytest
import torch


def checkpointer(folder, model):
    from sb_espnet_vq.training.checkpoints import TrainingRecord, WholeCheckpointer

    recoverables = {"model": model, "record": TrainingRecord()}
    return WholeCheckpointer(folder, recoverables)


def fill(model, value):
    with torch.no_grad():
        model.weight.fill_(value)


def test_a_checkpoint_restores_weights_and_records(tmp_path):
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
    """Make `torch.save` fail as on a full disk."""
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
def test_a_full_disk_keeps_the_previous_checkpoint_and_is_reported(
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
    with pytest.raises(CheckpointError, match=r"(?s)could not be saved.*unchanged"):
        saver.save_and_keep_only()
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    checkpointer(tmp_path, model).recover_if_possible()
    assert model.weight.unique().tolist() == [1.0]


def test_a_kill_while_saving_or_deleting_leaves_no_incomplete_checkpoint(
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


def test_the_time_of_resumed_runs_is_added_up(tmp_path):
    from sb_espnet_vq.training.checkpoints import TrainingRecord

    first = TrainingRecord()
    first.start()
    first._started["wall"] -= 100
    first._save(tmp_path / "record")
    second = TrainingRecord()
    second.start()
    second._load(tmp_path / "record", end_of_epoch=True)
    assert 100 <= second.seconds["wall"] < 110
    assert TrainingRecord().seconds == {"wall": 0.0, "cpu": 0.0}
