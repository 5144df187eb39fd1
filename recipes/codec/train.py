#!/usr/bin/env python3
"""Train a waveform codec, with or without a discriminator.

> python recipes/codec/train.py hparams/codec/fsdd.yaml
> python recipes/codec/train.py hparams/codec/fsdd.yaml --quantizer bsq
"""

import copy
import logging
import random
from typing import Any, NamedTuple

import speechbrain as sb
import torch
import torch.nn.functional as F
from evaluate import evaluate, report
from measure import choose_measures
from speechbrain.utils.distributed import if_main_process
from torch import Tensor

from sb_espnet_vq.codec.discriminator import (
    adversarial_loss,
    feature_loss,
    judge_loss,
)
from sb_espnet_vq.codec.model import Codec
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.quantizers.chain import beam_options
from sb_espnet_vq.training.brain import ResumableBrain
from sb_espnet_vq.training.data import read_datasets
from sb_espnet_vq.training.start import begin, make_brain, run_recipe
from sb_espnet_vq.utils.speech_batch import SpeechBatch

logger = logging.getLogger(__name__)


class Reconstruction(NamedTuple):
    """Audio of a batch and its reconstruction."""

    target: Tensor  # (B, L) float, 0 in the padding
    estimate: Tensor  # (B, L) float, 0 in the padding
    loss: Tensor  # scalar, weighted loss of the quantizer
    perplexity: Tensor  # scalar, of the codes
    seconds: float  # duration of the audio without padding


class CodecBrain(ResumableBrain):
    """Trains and evaluates the codec; the YAML file documents the hyperparameters.

    The best checkpoint is the one with the lowest mel loss on validation speech at the
    highest bandwidth, since adversarial training changes the sum of losses.
    """

    min_key = "mel"

    def init_optimizers(self) -> None:
        """Create one optimizer for the codec and one for the discriminator."""
        self.optimizer = self.opt_class(self.modules.codec.parameters())
        self.judge_optimizer = self.opt_class(self.modules.discriminator.parameters())
        self.optimizers_dict = {
            "codec": self.optimizer,
            "discriminator": self.judge_optimizer,
        }
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)
            self.checkpointer.add_recoverable("judge_optimizer", self.judge_optimizer)

    def freeze_optimizers(self, optimizers: dict[str, Any]) -> dict[str, Any]:
        """Exclude the discriminator from SpeechBrain's optimizer step."""
        return {"codec": optimizers["codec"]}

    def compute_forward(self, batch: SpeechBatch, stage: sb.Stage) -> Reconstruction:
        """Reconstruct the batch; in training, a random segment of each row."""
        signals, samples = batch.signals, batch.samples
        bandwidth = None
        if stage == sb.Stage.TRAIN:
            signals, samples = self.crop(signals, samples)
            bandwidth = self.draw_bandwidth()
        seconds = float(samples.sum()) / self.hparams.sample_rate
        signals, samples = signals.to(self.device), samples.to(self.device)
        if bool((samples == signals.shape[1]).all()):
            samples = None
        out = self.modules.codec(signals, samples, bandwidth)
        return Reconstruction(
            signals, out.signals, out.loss, out.stats["perplexity"], seconds
        )

    def crop(self, signals: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return a random segment of each row and its number of valid samples."""
        length = int(self.hparams.segment_seconds * self.hparams.sample_rate)
        spare = (samples - length).clamp(min=0)
        starts = (torch.rand(len(samples)) * (spare + 1)).long()
        rows = [x[s : s + length] for x, s in zip(signals, starts, strict=True)]
        samples = samples.clamp(max=length)
        return torch.stack(rows)[:, : int(samples.max())], samples

    def draw_bandwidth(self) -> float:
        """Draw one of the bandwidths (kbit/s), the same on every rank."""
        generator = random.Random(f"{self.step_key()}/bandwidth")
        return generator.choice(self.hparams.bandwidths)

    def compute_objectives(
        self, predictions: Reconstruction, batch: SpeechBatch, stage: sb.Stage
    ) -> Tensor:
        """Return the weighted sum of all losses; each is also recorded unweighted."""
        target, estimate = predictions.target, predictions.estimate.float()
        spectral = self.modules.spectral_loss(estimate, target)
        terms = {
            "wave": F.l1_loss(estimate, target),
            "stft": spectral.stft,
            "mel": spectral.mel,
            "quantizer": predictions.loss,
        }
        loss = sum(
            getattr(self.hparams, f"{name}_weight") * term
            for name, term in terms.items()
        )
        if stage == sb.Stage.TRAIN and self.is_adversarial():
            loss = loss + self.generator_loss(target, estimate)
        seconds = predictions.seconds
        counted = terms | {"loss": loss, "perplexity": predictions.perplexity}
        self.sums.add(
            seconds=torch.tensor(seconds, device=self.device),
            **{name: value * seconds for name, value in counted.items()},
        )
        return loss

    def is_adversarial(self) -> bool:
        """Return whether this step uses the discriminator."""
        begun = self.optimizer_step >= self.hparams.adversarial_start
        return self.hparams.adversarial_weight > 0 and begun

    def generator_loss(self, target: Tensor, estimate: Tensor) -> Tensor:
        """Return the codec's weighted adversarial and feature losses."""
        # Without the DDP wrapper, which would wait for gradients of the weights.
        discriminator = getattr(
            self.modules.discriminator, "module", self.modules.discriminator
        )
        discriminator.requires_grad_(False)
        with torch.no_grad():
            real = discriminator(target)
        fake = discriminator(estimate)
        discriminator.requires_grad_(True)
        return self.hparams.adversarial_weight * adversarial_loss(
            fake
        ) + self.hparams.feature_weight * feature_loss(real, fake)

    def fit_batch(self, batch: SpeechBatch) -> Tensor:
        """Run a step of the codec, then one of the discriminator on the same audio."""
        # Read first, since the codec's step increments the step count.
        adversarial = self.is_adversarial()
        loss = super().fit_batch(batch)
        if adversarial:
            self.fit_discriminator(*self.last_pair)
        return loss

    def on_fit_batch_end(
        self, batch: Any, outputs: Reconstruction, loss: Tensor, should_step: bool
    ) -> None:
        """Store the audio for the discriminator's step; update the progress bar."""
        self.last_pair = outputs.target, outputs.estimate.detach().float()
        super().on_fit_batch_end(batch, outputs, loss, should_step)

    def fit_discriminator(self, target: Tensor, estimate: Tensor) -> None:
        """Run a step of the discriminator on recorded and reconstructed audio."""
        discriminator, optimizer = self.modules.discriminator, self.judge_optimizer
        with self.training_ctx:
            # A single call, since DDP allows one forward per backward.
            both = discriminator(torch.cat([target, estimate]))
            halves = [_split(output, len(target)) for output in both]
            loss = judge_loss(*zip(*halves, strict=True))
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(discriminator.parameters(), self.max_grad_norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def summarise(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return means over seconds of audio: loss, its terms, code perplexity."""
        seconds = max(1e-9, float(sums["seconds"]))
        names = ("loss", "mel", "stft", "wave", "quantizer", "perplexity")
        return {name: float(sums[name]) / seconds for name in names}

    def speed(self, sums: dict[str, Tensor]) -> tuple[float, str]:
        """Count seconds of audio in the progress bar."""
        return float(sums.get("seconds", 0)), "s of audio"


def _split(output: Any, count: int) -> list[Any]:
    """Split a discriminator output into the first `count` rows and the others."""
    scores, features = output
    return [
        output._replace(scores=scores[rows], features=[f[rows] for f in features])
        for rows in (slice(None, count), slice(count, None))
    ]


def main(arguments: list[str]) -> None:
    """Train, evaluate the best checkpoint on test speech, report."""
    hparams, run_opts = begin(arguments, check_settings)
    measures = hparams["measures"]
    for name, command in measures.missing.items():
        logger.warning("%s is not measured, as a library is missing: %s", name, command)
    warn_untrained(hparams["codec"], hparams["bandwidths"])
    datasets = read_datasets(hparams)
    brain = make_brain(CodecBrain, hparams, run_opts)
    untrained = copy.deepcopy(hparams["codec"])
    brain.train(datasets)
    # Loads the best checkpoint.
    brain.on_evaluate_start()
    if if_main_process():
        results = evaluate(brain, datasets, untrained, measures)
        report(*results, hparams["output_folder"])


def warn_untrained(codec: Codec, bandwidths: list[float]) -> None:
    """Warn of codebooks that no bandwidth uses: tokens would have codes of them."""
    used = max(codec.codebooks_for(bandwidth) for bandwidth in bandwidths)
    total = len(codec.quantizer.codebook_sizes)
    if used < total:
        logger.warning(
            "the bandwidths use %d of %d codebooks, and the others are not trained; "
            "set n_codebooks: %d",
            used,
            total,
            used,
        )


def check_settings(hparams: dict[str, Any]) -> None:
    """Raise ConfigError for inconsistent values, before any file is written."""
    codec = hparams["codec"]
    if hparams["segment_seconds"] * hparams["sample_rate"] < codec.hop:
        raise ConfigError(
            f"segment_seconds {hparams['segment_seconds']} is shorter than a frame of "
            f"{codec.hop} samples (the product of ratios)"
        )
    beam_options(codec.quantizer, hparams.get("beam", 1))
    # Also loads the recognizer.
    hparams["measures"] = choose_measures(hparams)


if __name__ == "__main__":
    run_recipe(main)
