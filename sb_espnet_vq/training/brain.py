"""Base class of the recipes' Brains: interrupted runs resume with identical results."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process
from tqdm.contrib import tqdm

from sb_espnet_vq.errors import CheckpointError
from sb_espnet_vq.training.checkpoints import TrainingRecord
from sb_espnet_vq.training.data import make_loader
from sb_espnet_vq.utils.seeds import seed_of


class ResumableBrain(sb.Brain):
    """Brain with metrics per epoch, random draws seeded per step, and best checkpoints.

    Subclasses add to ``self.sums`` in ``compute_objectives`` and compute metrics from
    the sums in ``summarise``. The hparams need ``seed``, ``number_of_epochs``,
    ``epoch_counter``, ``schedule``, ``record``, ``train_logger``, ``train_batches``
    and the loaders' options.

    Attributes
    ----------
    min_key : str
        Validation metric; the best checkpoint is the one with the lowest value.
    sums : TrainingRecord
        Sums over the current stage, from which its metrics are computed.
    epochs : list[dict[str, float]]
        Metrics of each epoch, after `train`.
    seconds : dict[str, float]
        Wall-clock and CPU time of training in seconds, after `train`; empty if the run
        is only evaluated.
    """

    min_key = "loss"
    # SpeechBrain sets these without type annotations.
    train_sampler: Any
    optimizer_step_limit: int | None
    max_grad_norm: float

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.max_grad_norm <= 0:
            # SpeechBrain clips with these values too: 0 sets all gradients to zero, and
            # a negative value (documented as "no clipping") flips their sign.
            self.max_grad_norm = math.inf

    def summarise(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        """Compute metrics from the sums of a stage.

        Arguments
        ---------
        sums : dict[str, torch.Tensor]
            The sums that ``compute_objectives`` added to.

        Returns
        -------
        dict[str, float]
            Metrics by name, including ``min_key``.
        """
        raise NotImplementedError

    def speed(self, sums: dict[str, torch.Tensor]) -> tuple[float, str]:
        """Return the count whose rate the progress bar shows.

        Arguments
        ---------
        sums : dict[str, torch.Tensor]
            Sums over this epoch so far.

        Returns
        -------
        tuple[float, str]
            The count and its unit.
        """
        return float(sums.get("frames", 0)), "frames"

    def train(self, datasets: dict[str, Any]) -> None:
        """Restore the latest checkpoint and train for the remaining epochs.

        A run that is evaluated (`begin_evaluation`) has no remaining epochs.

        Arguments
        ---------
        datasets : dict[str, DynamicItemDataset]
            The splits, of which train and valid are used.
        """
        hparams = dict(vars(self.hparams))
        if "evaluated" in hparams:
            self._restore_epochs()
            return
        sampler = hparams["train_batches"](datasets["train"])
        options = hparams["train_dataloader_options"] | {
            "batch_sampler": sampler,
            "collate_fn": hparams["collate"],
        }
        loader = self.make_dataloader(datasets["train"], sb.Stage.TRAIN, **options)
        if self.train_sampler is None:
            # SpeechBrain sets the epoch only of distributed samplers.
            self.train_sampler = sampler
        self.steps_per_epoch = len(loader)
        self.total_steps = self._count_steps()
        self.plain_train_batches = make_loader(datasets["train"], hparams)
        hparams["record"].start()
        self.fit(
            self.hparams.epoch_counter,
            loader,
            make_loader(datasets["valid"], hparams),
            progressbar=False,
        )
        self.seconds = hparams["record"].seconds
        self.epochs = list(hparams["record"].epochs)

    def on_fit_start(self) -> None:
        """Create the optimizers and restore the latest checkpoint, if there is one.

        Raises
        ------
        CheckpointError
            If the checkpoint belongs to another model.
        """
        with self._explained():
            super().on_fit_start()

    def _restore_epochs(self) -> None:
        """Restore the record of the epochs from the latest checkpoint."""
        if self.checkpointer.find_checkpoint(min_key=self.min_key) is None:
            raise CheckpointError(
                f"{self.checkpointer.checkpoints_dir}: no checkpoint with a metric "
                f"{self.min_key!r}, by which this recipe finds the best one"
            )
        with self._explained():
            self.checkpointer.recover_if_possible()
        self.epochs = list(self.hparams.record.epochs)
        self.seconds = {}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Explain the error of a checkpoint that belongs to another model."""
        try:
            yield
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            raise CheckpointError(
                f"{self.checkpointer.checkpoints_dir}: the checkpoint in this folder "
                "belongs to another model; give another output_folder, or the settings "
                f"of that training. {error}"
            ) from error

    def on_evaluate_start(
        self, max_key: str | None = None, min_key: str | None = None
    ) -> None:
        """Load the best checkpoint, by default the one with the lowest ``min_key``."""
        if max_key is None and min_key is None:
            min_key = self.min_key
        super().on_evaluate_start(max_key, min_key)

    def _count_steps(self) -> int:
        """Return the number of optimizer steps of the whole run."""
        if self.optimizer_step_limit is not None:
            # From the command line, SpeechBrain passes this option as a string.
            self.optimizer_step_limit = int(self.optimizer_step_limit)
        batches = self.steps_per_epoch * self.hparams.number_of_epochs
        steps = max(1, batches // self.grad_accumulation_factor)
        limit = self.optimizer_step_limit
        return steps if limit is None else min(steps, limit)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Reset the sums and open the progress bar."""
        # The sums of a training epoch are restored when it is resumed.
        training = stage == sb.Stage.TRAIN
        self.sums = self.hparams.record if training else TrainingRecord()
        self.started = time.monotonic()
        self.before = self.speed(self.sums.running)[0]
        self.bar = None
        if training and not self.noprogressbar and if_main_process():
            self.bar = tqdm(
                total=self.steps_per_epoch,
                initial=self.step,
                desc=f"epoch {epoch}/{self.hparams.number_of_epochs}",
                dynamic_ncols=True,
            )

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Seed the random generators from the step number; set the learning rate.

        A resumed run then makes the same random draws as an uninterrupted one.
        """
        rank = self.rank if self.distributed_launch else 0
        seed = seed_of(f"{self.step_key()}/{rank}")
        random.seed(seed)
        torch.manual_seed(seed)
        step = self.optimizer_step + 1
        for optimizer in self.optimizers_dict.values():
            self.hparams.schedule.apply(optimizer, step, self.total_steps)

    def step_key(self) -> str:
        """Return a key of this training step for seeds, the same on every rank.

        Returns
        -------
        str
        """
        epoch = self.hparams.epoch_counter.current
        return f"{self.hparams.seed}/{epoch}/{self.step}"

    def on_fit_batch_end(
        self, batch: Any, outputs: Any, loss: torch.Tensor, should_step: bool
    ) -> None:
        """Update the progress bar."""
        if self.bar is None:
            return
        metrics = self.summarise(self.sums.running)
        count, unit = self.speed(self.sums.running)
        rate = (count - self.before) / (time.monotonic() - self.started)
        shown = [f"{name} {value:.3g}" for name, value in metrics.items()]
        self.bar.set_postfix_str(
            ", ".join([*shown, f"{rate:.0f} {unit}/s"]), refresh=False
        )
        self.bar.update()

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: int | None = None
    ) -> None:
        """Compute the metrics; after validation, log them and save a checkpoint."""
        if stage == sb.Stage.TRAIN:
            if self.bar is not None:
                self.bar.close()
            self.train_metrics = self.summarise(self.sums.totals())
            return
        metrics = self.summarise(self.sums.running)
        if stage == sb.Stage.TEST:
            self.test_sums = self.sums.running
            return
        train = {f"train_{name}": value for name, value in self.train_metrics.items()}
        valid = {f"valid_{name}": value for name, value in metrics.items()}
        step = self.optimizer_step
        self.hparams.record.close_epoch(epoch=epoch, step=step, **train, **valid)
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "steps": step, "lr": self.optimizer.param_groups[0]["lr"]},
            train_stats=self.train_metrics,
            valid_stats=metrics,
        )
        self.checkpointer.save_and_keep_only(
            meta={self.min_key: metrics[self.min_key], "epoch": epoch},
            min_keys=[self.min_key],
            # SpeechBrain's default is a mutable list that grows with every call.
            importance_keys=[],
        )
