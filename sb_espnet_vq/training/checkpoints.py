"""Atomic checkpoints, and the record of training metrics that they contain."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.checkpoints import (
    METAFNAME,
    PARAMFILE_EXT,
    Checkpoint,
    Checkpointer,
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import (
    ddp_barrier,
    if_main_process,
    is_distributed_initialized,
)

from sb_espnet_vq.errors import CheckpointError

logger = logging.getLogger(__name__)

SAVING = "saving"


class WholeCheckpointer(Checkpointer):
    """SpeechBrain's checkpointer, with atomic checkpoints.

    SpeechBrain creates the folder and its meta file first, so a run that is killed, or
    finds the disk full, while saving leaves an incomplete checkpoint that is later
    loaded as the latest one. This class writes a checkpoint under a temporary name and
    renames it when it is complete. Checkpoints with a missing file, as after a kill
    during deletion, are ignored.

    Arguments, files and all other behavior are those of the parent class.
    """

    def save_checkpoint(
        self,
        meta: dict[str, Any] | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        verbosity: int = logging.INFO,
    ) -> Checkpoint | None:
        """Save all registered objects.

        Arguments
        ---------
        meta : dict[str, Any], optional
            Stored in the checkpoint's meta file.
        end_of_epoch : bool
            Whether the epoch is over.
        name : str, optional
            Name of the checkpoint. Default: the time.
        verbosity : int
            Logging level of the message.

        Returns
        -------
        Checkpoint | None
            None in all processes except the main one.

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be written. The incomplete files are removed, and
            earlier checkpoints are unchanged.
        """
        if if_main_process():
            self._remove_unfinished()
        ddp_barrier()
        try:
            saved = super().save_checkpoint(
                meta or {}, end_of_epoch, name, logging.DEBUG
            )
            final = self._publish(saved) if saved is not None else None
        except Exception as error:
            # Not only OSError: on a full disk torch raises a RuntimeError.
            raise CheckpointError(self._explain(error)) from error
        ddp_barrier()
        if final is not None:
            logger.log(verbosity, "Saved checkpoint %s", final.path)
        return final

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Restore all registered objects.

        Arguments
        ---------
        checkpoint : Checkpoint
            As `find_checkpoint` returns it.

        Raises
        ------
        CheckpointError
            If the file of an object is missing; raised before any object changes.
        """
        needed = [
            name
            for name in self.recoverables
            if not (self.optional_recoverables.get(name) or "dataloader" in name)
        ]
        missing = sorted(set(needed) - set(checkpoint.paramfiles))
        if missing and not self.allow_partial_load:
            files = ", ".join(f"{name}{PARAMFILE_EXT}" for name in missing)
            raise CheckpointError(
                f"{checkpoint.path} has no {files}: it was written by another version "
                "of the recipe, or with another configuration. Resume with that one, "
                "or set another output_folder to start a new run"
            )
        super().load_checkpoint(checkpoint)

    def _new_checkpoint_dirpath(self) -> Path:
        final = super()._new_checkpoint_dirpath()
        return final.with_name(f"{SAVING}-{final.name}")

    def _custom_checkpoint_dirpath(self, name: str) -> Path:
        final = super()._custom_checkpoint_dirpath(name)
        return final.with_name(f"{SAVING}-{final.name}")

    def _publish(self, saved: Checkpoint) -> Checkpoint:
        final = saved.path.with_name(saved.path.name.removeprefix(f"{SAVING}-"))
        # The number of files is recorded, so that missing ones are detected.
        with (saved.path / METAFNAME).open("a", encoding="utf-8") as meta:
            meta.write(f"files: {_count(saved.path)}\n")
        if final.exists():
            shutil.rmtree(final)
        os.rename(saved.path, final)
        files = {name: final / path.name for name, path in saved.paramfiles.items()}
        return Checkpoint(final, saved.meta, files)

    def _list_checkpoint_dirs(self) -> list[Path]:
        return [path for path in super()._list_checkpoint_dirs() if _is_whole(path)]

    def _remove_unfinished(self) -> None:
        for path in self.checkpoints_dir.glob(f"{SAVING}-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _explain(self, error: Exception) -> str:
        self._remove_unfinished()
        free = shutil.disk_usage(self.checkpoints_dir).free / 2**20
        latest = self.find_checkpoint()
        kept = (
            f"the previous one, {latest.path.name}, is unchanged: run the same command "
            "again to resume from it"
            if latest
            else "there is no previous one"
        )
        return (
            f"{self.checkpoints_dir}: a checkpoint could not be saved ({error}); "
            f"this disk has {free:.0f} MiB free; {kept}"
        )


class TrainingRecord:
    """Metrics of each epoch so far, saved in checkpoints.

    Arguments
    ---------
    None

    Attributes
    ----------
    epochs : list[dict[str, float]]
        Metrics of each finished epoch, in order.
    running : dict[str, torch.Tensor]
        Sums over the current epoch. In a distributed run, each process has its own;
        a checkpoint contains the total, which the main process restores.
    seconds : dict[str, float]
        Wall-clock and CPU time since `start`, with that of the runs that were resumed.

    Example
    -------
    >>> record = TrainingRecord()
    >>> record.add(loss=torch.tensor(2.0)); record.add(loss=torch.tensor(3.0))
    >>> record.totals()
    {'loss': tensor(5., dtype=torch.float64)}
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.running: dict[str, torch.Tensor] = {}
        self._before = {"wall": 0.0, "cpu": 0.0}
        self._started: dict[str, float] | None = None

    def start(self) -> None:
        """Start to measure the time of training."""
        self._started = _clocks()

    @property
    def seconds(self) -> dict[str, float]:
        """Wall-clock and CPU time in seconds; that before a resumption is included."""
        if self._started is None:
            return dict(self._before)
        now = _clocks()
        return {k: self._before[k] + now[k] - self._started[k] for k in now}

    def add(self, **sums: torch.Tensor) -> None:
        """Add to the sums of this epoch, in float64.

        Arguments
        ---------
        **sums : torch.Tensor
            Values to add, with the same names and shapes in every call.
        """
        for name, value in sums.items():
            value = value.detach().double()
            before = self.running.get(name)
            self.running[name] = (
                value if before is None else before.to(value.device) + value
            )

    def totals(self) -> dict[str, torch.Tensor]:
        """Return the sums over all processes; every process must call it.

        Returns
        -------
        dict[str, torch.Tensor]
            On the CPU.
        """
        names = sorted(self.running)
        if not is_distributed_initialized():
            return {name: self.running[name].cpu() for name in names}
        totals = {}
        for name in names:
            total = self.running[name].clone()
            torch.distributed.all_reduce(total)
            totals[name] = total.cpu()
        return totals

    def close_epoch(self, **metrics: float) -> None:
        """Store the metrics of an epoch and reset the sums.

        Arguments
        ---------
        **metrics : float
            Python numbers.
        """
        self.epochs.append(metrics)
        self.running = {}

    @mark_as_saver
    def _save(self, path: str | Path) -> None:
        totals = self.totals()
        if if_main_process():
            state = {"epochs": self.epochs, "running": totals, "seconds": self.seconds}
            torch.save(state, path)

    @mark_as_loader
    def _load(self, path: str | Path, end_of_epoch: bool) -> None:
        del end_of_epoch
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.epochs = state["epochs"]
        self.running = state["running"]
        # Checkpoints of earlier versions have no time.
        self._before = state.get("seconds", self._before)
        if self._started is not None:
            self.start()
        if not if_main_process():
            self.running = {n: torch.zeros_like(v) for n, v in self.running.items()}


def _clocks() -> dict[str, float]:
    return {"wall": time.monotonic(), "cpu": time.process_time()}


# All processes save, since their sums are added up.
register_checkpoint_hooks(TrainingRecord, save_on_main_only=False)


def _is_whole(path: Path) -> bool:
    # A meta file without the count was written by SpeechBrain's own class.
    for line in (path / METAFNAME).read_text(encoding="utf-8").splitlines():
        if line.startswith("files: "):
            return _count(path) == int(line.split()[1])
    return True


def _count(path: Path) -> int:
    return len(list(path.glob(f"*{PARAMFILE_EXT}")))
