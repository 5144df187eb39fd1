"""Training of a waveform codec, alone or against a discriminator, as a Brain."""

import random
from typing import NamedTuple

import speechbrain as sb
import torch
import torch.nn.functional as F

from sb_espnet_vq.codec.discriminator import (
    adversarial_loss,
    feature_loss,
    judge_loss,
)
from sb_espnet_vq.training.brain import ResumableBrain


class Reconstruction(NamedTuple):
    """Audio and what the codec makes of it.

    target, estimate : (B, L) float, 0 in the padding; loss : scalar, the quantizer's
    own; perplexity : scalar, of its codes; seconds : float, real audio.
    """

    target: torch.Tensor
    estimate: torch.Tensor
    loss: torch.Tensor
    perplexity: torch.Tensor
    seconds: float


class CodecBrain(ResumableBrain):
    """Trains and evaluates; see the hparams for what each name stands for.

    The best checkpoint is the one with the least mel distance on valid, at the
    highest bandwidth: the sum of losses moves when a discriminator joins in.
    """

    min_key = "mel"

    def init_optimizers(self):
        """One optimizer for the codec, one for the discriminator."""
        self.optimizer = self.opt_class(self.modules.codec.parameters())
        self.judge_optimizer = self.opt_class(self.modules.discriminator.parameters())
        self.optimizers_dict = {
            "codec": self.optimizer,
            "discriminator": self.judge_optimizer,
        }
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)
            self.checkpointer.add_recoverable("judge_optimizer", self.judge_optimizer)

    def freeze_optimizers(self, optimizers):
        """Let a step of the codec be a step of the codec alone.

        Arguments
        ---------
        optimizers : dict
            Both.

        Returns
        -------
        dict
        """
        return {"codec": optimizers["codec"]}

    def compute_forward(self, batch, stage):
        """Reconstruct the batch: a random part of each row in training.

        Arguments
        ---------
        batch : SpeechBatch
            Signals.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        Reconstruction
        """
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

    def crop(self, signals, samples):
        """Take a random segment of each row.

        Arguments
        ---------
        signals : torch.Tensor
            (B, L).
        samples : torch.Tensor
            (B,) int64, real samples.

        Returns
        -------
        tuple[torch.Tensor, torch.Tensor]
            Signals of up to segment_seconds, and their real samples.
        """
        length = int(self.hparams.segment_seconds * self.hparams.sample_rate)
        spare = (samples - length).clamp(min=0)
        starts = (torch.rand(len(samples)) * (spare + 1)).long()
        rows = [x[s : s + length] for x, s in zip(signals, starts, strict=True)]
        samples = samples.clamp(max=length)
        return torch.stack(rows)[:, : int(samples.max())], samples

    def draw_bandwidth(self):
        """Draw one of the bandwidths, the same on every rank.

        Returns
        -------
        float
            kbit/s.
        """
        generator = random.Random(f"{self.step_key()}/bandwidth")
        return generator.choice(self.hparams.bandwidths)

    def compute_objectives(self, predictions, batch, stage):
        """The weighted sum of all losses; counts for the figures.

        Arguments
        ---------
        predictions : Reconstruction
            From `compute_forward`.
        batch : SpeechBatch
            Not needed.
        stage : sb.Stage
            In training the discriminator has its say.

        Returns
        -------
        torch.Tensor
            Scalar.
        """
        target, estimate = predictions.target, predictions.estimate.float()
        hparams = self.hparams
        spectral = self.modules.spectral_loss(estimate, target)
        terms = {
            "wave": F.l1_loss(estimate, target),
            "stft": spectral.stft,
            "mel": spectral.mel,
            "quantizer": predictions.loss,
        }
        loss = (
            hparams.wave_weight * terms["wave"]
            + hparams.stft_weight * terms["stft"]
            + hparams.mel_weight * terms["mel"]
            + hparams.quantizer_weight * terms["quantizer"]
        )
        if stage == sb.Stage.TRAIN and self.is_adversarial():
            loss = loss + self.discriminator_says(target, estimate)
        seconds = predictions.seconds
        counted = terms | {"loss": loss, "perplexity": predictions.perplexity}
        self.sums.add(
            seconds=torch.tensor(seconds, device=self.device),
            **{name: value * seconds for name, value in counted.items()},
        )
        return loss

    def is_adversarial(self):
        """Whether the discriminator takes part in this step.

        Returns
        -------
        bool
        """
        begun = self.optimizer_step >= self.hparams.adversarial_start
        return self.hparams.adversarial_weight > 0 and begun

    def discriminator_says(self, target, estimate):
        """What the codec is told by the discriminator.

        Arguments
        ---------
        target, estimate : torch.Tensor
            (B, L).

        Returns
        -------
        torch.Tensor
            Scalar, weighted.
        """
        # Not its distributed wrapper, which would wait for gradients of its weights.
        judge = getattr(
            self.modules.discriminator, "module", self.modules.discriminator
        )
        judge.requires_grad_(False)
        with torch.no_grad():
            real = judge(target)
        fake = judge(estimate)
        judge.requires_grad_(True)
        return self.hparams.adversarial_weight * adversarial_loss(
            fake
        ) + self.hparams.feature_weight * feature_loss(real, fake)

    def fit_batch(self, batch):
        """A step of the codec, then one of the discriminator on the same audio.

        Arguments
        ---------
        batch : SpeechBatch
            Signals.

        Returns
        -------
        torch.Tensor
            The codec's loss.
        """
        # Asked before the codec's step advances the count.
        adversarial = self.is_adversarial()
        loss = super().fit_batch(batch)
        if adversarial:
            self.fit_discriminator(*self.last_pair)
        return loss

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Keep the audio for the discriminator's step; show how it goes.

        Arguments
        ---------
        batch, outputs, loss, should_step : object
            As in the parent class.
        """
        self.last_pair = outputs.target, outputs.estimate.detach().float()
        super().on_fit_batch_end(batch, outputs, loss, should_step)

    def fit_discriminator(self, target, estimate):
        """Teach the discriminator to tell recorded audio from the codec's.

        Arguments
        ---------
        target, estimate : torch.Tensor
            (B, L), without gradient.
        """
        judge, optimizer = self.modules.discriminator, self.judge_optimizer
        with self.training_ctx:
            # One call, since a distributed wrapper allows one between two updates.
            both = judge(torch.cat([target, estimate]))
            halves = [_split(judgement, len(target)) for judgement in both]
            loss = judge_loss(*zip(*halves, strict=True))
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(judge.parameters(), self.max_grad_norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def summarise(self, sums):
        """Turn sums into means over seconds of audio.

        Arguments
        ---------
        sums : dict[str, torch.Tensor]
            As counted by `compute_objectives`.

        Returns
        -------
        dict[str, float]
            Each loss term unweighted, their weighted sum, the codes' perplexity.
        """
        seconds = max(1e-9, float(sums["seconds"]))
        names = ("loss", "mel", "stft", "wave", "quantizer", "perplexity")
        return {name: float(sums[name]) / seconds for name in names}

    def speed(self, sums):
        """Seconds of audio.

        Arguments
        ---------
        sums : dict[str, torch.Tensor]
            Of this epoch so far.

        Returns
        -------
        tuple[float, str]
        """
        return float(sums.get("seconds", 0)), "s of audio"


def _split(judgement, count):
    """Part a judgement on recorded audio from that on the codec's after it."""
    scores, features = judgement
    return [
        judgement._replace(scores=scores[rows], features=[f[rows] for f in features])
        for rows in (slice(None, count), slice(count, None))
    ]
