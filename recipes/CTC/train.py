#!/usr/bin/env python3
"""Recognize speech by CTC, from an encoder, log-mel features or tokens.

Graves et al. 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf. A small network
reads the output of a pretrained encoder, log-mel features, or the tokens of a
quantizer; its word error says what they are worth.

> python recipes/CTC/train.py hparams/CTC/fsdd.yaml
> python recipes/CTC/train.py hparams/CTC/fsdd.yaml --train_minutes 1 \
      --pretrained results/BEST-RQ/fsdd/1234 --output_folder results/CTC/best_rq
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import speechbrain as sb
import torch
from data import TranscribedBatch, count_seen, read_transcribed
from evaluate import check_same_test, evaluate, report
from speechbrain.decoders.ctc import ctc_greedy_decode
from speechbrain.nnet.losses import ctc_loss
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.metric_stats import ErrorRateStats
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.recognition.vocabulary import BLANK
from sb_espnet_vq.training.brain import ResumableBrain
from sb_espnet_vq.training.data import make_loader
from sb_espnet_vq.training.start import begin, make_brain, run_recipe
from sb_espnet_vq.utils.files import write_text


class Prediction(NamedTuple):
    """Log-probabilities of a batch."""

    log_probs: Tensor  # (B, T, units)
    lengths: Tensor  # (B,), shares of T that are no padding


class CTCBrain(ResumableBrain):
    """Trains and evaluates the recognizer; the YAML documents the hyperparameters."""

    min_key = "word_error"

    def init_optimizers(self) -> None:
        """Create the optimizer, with a lower rate for a pretrained encoder."""
        encoder = self.hparams.source.encoder_parameters()
        known = set(encoder)
        others = [p for p in self.modules.parameters() if p not in known]
        groups: list[dict[str, Any]] = [{"params": others}]
        if encoder:
            scale = self.hparams.encoder_lr / self.hparams.lr
            groups.append({"params": encoder, "lr_scale": scale})
        self.optimizer = self.opt_class(groups)
        self.optimizers_dict = {"opt_class": self.optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def compute_forward(self, batch: TranscribedBatch, stage: sb.Stage) -> Prediction:
        """Return the log-probabilities of the units at each frame."""
        frames, lengths = self.modules.source(
            batch.signals.to(self.device), batch.samples.to(self.device)
        )
        log_probs = self.modules.recognizer(frames, lengths)
        return Prediction(log_probs, lengths / log_probs.shape[1])

    def compute_objectives(
        self, predictions: Prediction, batch: TranscribedBatch, stage: sb.Stage
    ) -> Tensor:
        """Return the CTC loss in nats per unit of the transcripts.

        It is 0 for a transcript that is longer than its audio has frames.
        """
        loss = ctc_loss(
            predictions.log_probs,
            batch.units.to(self.device),
            predictions.lengths,
            batch.counts.to(self.device) / batch.units.shape[1],
            BLANK,
            reduction="sum",
        )
        units = batch.counts.sum()
        stats = self.score(predictions, batch)
        self.sums.add(
            loss=loss,
            units=units,
            edits=torch.tensor(sum(each["num_edits"] for each in stats.scores)),
            words=torch.tensor(sum(each["num_ref_tokens"] for each in stats.scores)),
            frames=(predictions.lengths * predictions.log_probs.shape[1]).sum(),
        )
        if stage == sb.Stage.TEST:
            self.test_scores.append((batch, stats))
        return loss / units.clamp(min=1).to(loss.device)

    def score(self, predictions: Prediction, batch: TranscribedBatch) -> Any:
        """Return SpeechBrain's word-error statistics of a batch, decoded greedily."""
        decoded = ctc_greedy_decode(*predictions, blank_id=BLANK)
        stats = ErrorRateStats()
        stats.append(
            # The same utterance may be twice in a batch.
            [f"{row}/{name}" for row, name in enumerate(batch.ids)],
            [self.hparams.vocabulary.words(units) for units in decoded],
            [text.split() for text in batch.texts],
        )
        return stats

    def on_fit_start(self) -> None:
        """Restore the latest checkpoint, or collect statistics for the features."""
        fresh = self.checkpointer is None or not self.checkpointer.list_checkpoints()
        super().on_fit_start()
        if fresh:
            wrapped = nn.parallel.DistributedDataParallel
            source = self.modules.source
            source = source.module if isinstance(source, wrapped) else source
            source.gather(self.plain_train_batches)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Reset the sums, and the scores of the test."""
        super().on_stage_start(stage, epoch)
        self.test_scores: list[tuple[TranscribedBatch, Any]] = []

    def summarise(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the loss (nats per unit) and the word error (errors per word)."""
        return {
            "loss": float(sums["loss"]) / max(1.0, float(sums["units"])),
            "word_error": float(sums["edits"]) / max(1.0, float(sums["words"])),
        }


def main(arguments: list[str]) -> None:
    """Train, evaluate the best checkpoint on test speech, report."""
    hparams, run_opts = begin(arguments, check_settings)
    check_same_test(hparams["compare_with"], hparams["output_folder"])
    hparams["source"].to(run_opts.get("device") or "cpu")
    datasets = read_transcribed(hparams)
    rounds = datasets.pop("rounds")
    seen = count_seen(hparams["pretrained"] or hparams["tokens"], datasets["test"])
    brain = make_brain(CTCBrain, hparams, run_opts)
    if if_main_process():
        symbols = {"units": hparams["units"], "symbols": hparams["vocabulary"].symbols}
        file = Path(hparams["output_folder"], "vocabulary.json")
        write_text(file, json.dumps(symbols, indent=1) + "\n")
    brain.train(datasets | {"train": rounds})
    brain.evaluate(make_loader(datasets["test"], hparams))
    if if_main_process():
        results = evaluate(brain, datasets) | {"test_utterances_seen_before": seen}
        report(results, hparams["output_folder"])


def check_settings(hparams: dict[str, Any]) -> None:
    """Raise ConfigError for inconsistent values, before any file is written."""
    rate = hparams["source"].sample_rate
    if rate not in (None, hparams["sample_rate"]):
        raise ConfigError(
            f"sample_rate must be {rate}, that of {hparams['pretrained'] or ''}"
            f"{hparams['tokens'] or ''}, not {hparams['sample_rate']}"
        )
    for run in hparams["compare_with"] or ():
        needed = (Path(run, "results.json"), Path(run, "test.csv"))
        if not all(file.is_file() for file in needed):
            raise ConfigError(
                f"compare_with: {run} is no finished run of this recipe; it has "
                "results.json and test.csv"
            )


if __name__ == "__main__":
    run_recipe(main)
