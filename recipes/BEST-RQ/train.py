#!/usr/bin/env python3
"""Pretrain an encoder by masked prediction of random-projection labels (BEST-RQ).

Chiu et al. 2022, https://arxiv.org/abs/2202.01855. Frames of log-mel features are
stacked by `pad_to_divisible_by`; the quantizer assigns a label to every stack, or one
from each of K = `n_codebooks` codebooks; spans of stacks are replaced by noise, and the
encoder predicts their labels.

> python recipes/BEST-RQ/train.py hparams/BEST-RQ/fsdd.yaml
> torchrun --nproc-per-node=2 recipes/BEST-RQ/train.py hparams/BEST-RQ/fsdd.yaml \
      --distributed_backend=gloo
"""

import copy
from typing import Any, NamedTuple

import speechbrain as sb
import torch
import torch.nn.functional as F
from evaluate import count_codes, evaluate, report
from speechbrain.utils.distributed import if_main_process
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.usage import usage_of_counts
from sb_espnet_vq.ssl.span_masks import span_masks
from sb_espnet_vq.training.brain import ResumableBrain
from sb_espnet_vq.training.data import make_loader, read_datasets
from sb_espnet_vq.training.start import begin, make_brain, run_recipe
from sb_espnet_vq.utils.seeds import seed_of
from sb_espnet_vq.utils.speech_batch import SpeechBatch


class Features(NamedTuple):
    """Normalized log-mel features of a batch, padded at the end to whole stacks."""

    frames: Tensor  # (B, T, n_mels), 0 in the padding
    lengths: Tensor  # (B,) int64, valid frames
    stacks: Tensor  # (B,) int64, stacks without padding

    def valid_stacks(self, total: int) -> Tensor:
        """Return a mask of the stacks without padding, (B, total) bool."""
        return torch.arange(total, device=self.stacks.device) < self.stacks[:, None]


class Prediction(NamedTuple):
    """Predictions at the N masked stacks of a batch, and the labels of the batch."""

    logits: Tensor  # (N, K, cb_vocab)
    targets: Tensor  # (N, K) int64
    labels: Tensor  # (M, K) int64, of every valid stack
    frames: Tensor  # scalar int64, valid feature frames


class BestRQBrain(ResumableBrain):
    """Trains and evaluates the encoder; the YAML file documents the hyperparameters."""

    def features(self, batch: SpeechBatch, epoch: int = 1) -> Features:
        """Compute features; in epoch 0 a global normalizer collects statistics."""
        signals = batch.signals.to(self.device)
        hop = self.hparams.sample_rate * self.hparams.hop_length // 1000
        lengths = batch.samples.to(self.device) // hop + 1
        frames = self.hparams.compute_features(signals)
        total = frames.shape[1]
        frames = self.modules.normalize(frames, lengths / total, epoch=epoch)
        valid = torch.arange(total, device=self.device) < lengths[:, None]
        stack = self.hparams.pad_to_divisible_by
        frames = F.pad(frames * valid[..., None], (0, 0, 0, -total % stack))
        return Features(frames, lengths, lengths // stack)

    def label(self, features: Features) -> Tensor:
        """Return the labels of every stack, (B, stacks, K) int64; 0 for padding."""
        count, frames, width = features.frames.shape
        stack = self.hparams.pad_to_divisible_by
        stacks = frames // stack
        labels = self.modules.target_quantizer(
            features.frames.reshape(count, stacks, stack * width),
            mask=features.valid_stacks(stacks),
        )
        return labels.reshape(count, stacks, -1)

    def encode(
        self,
        features: Features,
        front_end: nn.Module,
        encoder: nn.Module,
        chunks: Any = None,
    ) -> list[Tensor]:
        """Run an encoder, with attention limited to `chunks` if given.

        Returns its hidden states (B, stacks, d_model), if the encoder returns them,
        followed by its output.
        """
        source = front_end(features.frames)
        expected = features.frames.shape[1] // self.hparams.pad_to_divisible_by
        if source.shape[1] != expected:
            raise ValueError(
                f"the front end CNN makes {source.shape[1]} steps of "
                f"{features.frames.shape[1]} frames; the quantizer makes {expected}: "
                "its strides must multiply to pad_to_divisible_by"
            )
        # At least one step for each row: attention over no step is NaN.
        lengths = features.stacks.clamp(min=1) / expected
        output = encoder(source, lengths, dynchunktrain_config=chunks)
        if isinstance(output, tuple):
            return [*output[1], output[0]]
        return [output]

    def draw_masks(
        self, batch: SpeechBatch, features: Features, stage: sb.Stage, epoch: int
    ) -> Tensor:
        """Draw masks over stacks, (B, stacks) bool.

        They differ in every epoch of training and are constant in evaluation, so that
        metrics can be compared across epochs.
        """
        when = epoch if stage == sb.Stage.TRAIN else "held-out"
        stack = self.hparams.pad_to_divisible_by
        return span_masks(
            features.stacks.tolist(),
            [f"{self.hparams.seed}/{when}/{name}" for name in batch.ids],
            start_prob=min(1.0, self.hparams.mask_prob * stack),
            span=self.hparams.mask_length // stack,
            total=features.frames.shape[1] // stack,
        ).to(self.device)

    def draw_noise(self, like: Tensor, batch: SpeechBatch, stage: sb.Stage) -> Tensor:
        """Draw noise that replaces masked features; constant in evaluation."""
        generator = None
        if stage != sb.Stage.TRAIN:
            generator = torch.Generator(like.device)
            generator.manual_seed(seed_of(f"{self.hparams.seed}/{batch.ids[0]}"))
        noise = torch.randn(like.shape, device=like.device, generator=generator)
        return self.hparams.noise_mean + self.hparams.noise_std * noise

    def chunks(self, stage: sb.Stage) -> Any:
        """Return the attention chunks of a batch if the YAML enables streaming."""
        if getattr(self.hparams, "streaming", False):
            return self.hparams.dynchunktrain_config_sampler(stage)
        return None

    def compute_forward(self, batch: SpeechBatch, stage: sb.Stage) -> Prediction:
        """Predict the labels of masked stacks."""
        epoch = self.hparams.epoch_counter.current
        features = self.features(batch, max(1, epoch))
        labels = self.label(features)
        mask = self.draw_masks(batch, features, stage, epoch)
        noise = self.draw_noise(features.frames, batch, stage)
        stack = self.hparams.pad_to_divisible_by
        covered = mask.repeat_interleave(stack, 1)[..., None]
        masked = features._replace(frames=torch.where(covered, noise, features.frames))
        hidden = self.encode(
            masked, self.modules.CNN, self.modules.wrapper, self.chunks(stage)
        )
        # One linear layer holds the heads of all codebooks.
        heads = labels.shape[2], self.hparams.cb_vocab
        logits = self.modules.linear(hidden[-1][mask]).unflatten(1, heads)
        valid = labels[features.valid_stacks(labels.shape[1])]
        return Prediction(logits, labels[mask], valid, features.lengths.sum())

    def compute_objectives(
        self, predictions: Prediction, batch: SpeechBatch, stage: sb.Stage
    ) -> Tensor:
        """Return the mean cross-entropy over masked stacks and codebooks, in nats.

        If nothing is masked it is 0, still connected to all parameters.
        """
        logits, targets = predictions.logits.float(), predictions.targets
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        self.sums.add(
            # Sums over codebooks too.
            loss=loss,
            correct=(logits.argmax(2) == targets).sum(),
            masked=torch.tensor(len(targets), device=self.device),
            frames=predictions.frames,
            targets=count_codes(targets, self.hparams.cb_vocab),
            counts=count_codes(predictions.labels, self.hparams.cb_vocab),
        )
        return loss / max(1, targets.numel())

    def on_fit_start(self) -> None:
        """Restore the latest checkpoint, or collect statistics for the normalizer."""
        super().on_fit_start()
        normalize = self.modules.normalize
        if normalize.norm_type == "global" and normalize.count == 0:
            normalize.train()
            for batch in self.plain_train_batches:
                self.features(batch, epoch=0)

    def summarise(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return loss (nats) and accuracy at masked stacks, and label perplexity.

        Each is a mean over codebooks.
        """
        masked = max(1.0, float(sums["masked"]) * len(sums["counts"]))
        perplexity, _ = usage_of_counts(sums["counts"])
        return {
            "loss": float(sums["loss"]) / masked,
            "accuracy": float(sums["correct"]) / masked,
            "perplexity": float(perplexity),
        }


def main(arguments: list[str]) -> None:
    """Train, evaluate the best checkpoint on test speech, report."""
    hparams, run_opts = begin(arguments, check_settings)
    datasets = read_datasets(hparams)
    brain = make_brain(BestRQBrain, hparams, run_opts)
    untrained = copy.deepcopy((hparams["CNN"], hparams["wrapper"]))
    brain.train(datasets)
    brain.evaluate(make_loader(datasets["test"], hparams))
    if if_main_process():
        report(evaluate(brain, datasets, untrained), hparams["output_folder"])


def check_settings(hparams: dict[str, Any]) -> None:
    """Raise ConfigError for inconsistent values, before any file is written."""
    stack, length = hparams["pad_to_divisible_by"], hparams["mask_length"]
    if length < stack or length % stack:
        raise ConfigError(
            f"mask_length must be a multiple of pad_to_divisible_by ({stack}), "
            f"not {length}: labels are given to whole stacks"
        )
    wide = hparams["n_mels"] * stack
    if hparams["p_input"] != wide:
        raise ConfigError(
            f"p_input must be n_mels * pad_to_divisible_by = {wide}, the width of a "
            f"stack, not {hparams['p_input']}"
        )
    layers = hparams["num_encoder_layers"]
    if not -1 <= hparams["probe_layer"] <= layers:
        raise ConfigError(
            f"probe_layer must be in -1 ... {layers} (num_encoder_layers), not "
            f"{hparams['probe_layer']}"
        )


if __name__ == "__main__":
    run_recipe(main)
