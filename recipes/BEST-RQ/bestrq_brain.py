"""Masked prediction of random-projection labels (BEST-RQ) as a SpeechBrain Brain.

BEST-RQ: Chiu et al. 2022, https://arxiv.org/abs/2202.01855. Frames of log-mel
features are stacked by `pad_to_divisible_by`; the quantizer gives every stack a
label; spans of stacks are replaced by noise and the encoder predicts their labels.
"""

from typing import NamedTuple

import speechbrain as sb
import torch
import torch.nn.functional as F

from sb_espnet_vq.ops.usage import usage_of_counts
from sb_espnet_vq.ssl.span_masks import span_masks
from sb_espnet_vq.training.brain import ResumableBrain
from sb_espnet_vq.utils.seeds import seed_of


class Features(NamedTuple):
    """Stacked log-mel features.

    frames : (B, T, n_mels), T a multiple of the stack, 0 in the padding;
    lengths : (B,) int64, real frames; stacks : (B,) int64, wholly real stacks.
    """

    frames: torch.Tensor
    lengths: torch.Tensor
    stacks: torch.Tensor

    def real_stacks(self, total):
        """Which of `total` stacks are real: (B, total) bool."""
        return torch.arange(total, device=self.stacks.device) < self.stacks[:, None]


class Prediction(NamedTuple):
    """What the encoder said about N masked stacks, and all labels of the batch.

    logits : (N, V); targets : (N,) int64; labels : int64, those of every real
    stack; frames : scalar int64, real feature frames.
    """

    logits: torch.Tensor
    targets: torch.Tensor
    labels: torch.Tensor
    frames: torch.Tensor


class BestRQBrain(ResumableBrain):
    """Trains and evaluates; see the hparams for what each name stands for."""

    def features(self, batch, epoch=1):
        """Normalised features of a batch, padded at the end.

        Arguments
        ---------
        batch : SpeechBatch
            Signals and their lengths.
        epoch : int
            0 lets a global normaliser gather statistics.

        Returns
        -------
        Features
        """
        signals = batch.signals.to(self.device)
        hop = self.hparams.sample_rate * self.hparams.hop_length // 1000
        lengths = batch.samples.to(self.device) // hop + 1
        frames = self.hparams.compute_features(signals)
        total = frames.shape[1]
        frames = self.modules.normalize(frames, lengths / total, epoch=epoch)
        real = torch.arange(total, device=self.device) < lengths[:, None]
        stack = self.hparams.pad_to_divisible_by
        frames = F.pad(frames * real[..., None], (0, 0, 0, -total % stack))
        return Features(frames, lengths, lengths // stack)

    def label(self, features):
        """Give every stack its label.

        Arguments
        ---------
        features : Features
            Unmasked.

        Returns
        -------
        torch.Tensor
            (B, stacks) int64; -1 for padding.
        """
        count, frames, width = features.frames.shape
        stack = self.hparams.pad_to_divisible_by
        stacks = frames // stack
        return self.modules.Quantizer(
            features.frames.reshape(count, stacks, stack * width),
            mask=features.real_stacks(stacks),
        )

    def encode(self, features, front_end, encoder, config=None):
        """Run an encoder.

        Arguments
        ---------
        features : Features
            Possibly masked.
        front_end, encoder : torch.nn.Module
            The trained ones, or copies.
        config : DynChunkTrainConfig, optional
            Limits attention to chunks, for streaming.

        Returns
        -------
        list[torch.Tensor]
            (B, stacks, d_model): hidden states where the encoder returns them,
            and always its output, last.
        """
        source = front_end(features.frames)
        expected = features.frames.shape[1] // self.hparams.pad_to_divisible_by
        if source.shape[1] != expected:
            raise ValueError(
                f"the front end CNN makes {source.shape[1]} steps of "
                f"{features.frames.shape[1]} frames; the quantizer makes {expected}: "
                "its strides must multiply to pad_to_divisible_by"
            )
        # Attention over nothing is not a number: even the shortest gets a step.
        lengths = features.stacks.clamp(min=1) / expected
        output = encoder(source, lengths, dynchunktrain_config=config)
        if isinstance(output, tuple):
            return [*output[1], output[0]]
        return [output]

    def draw_masks(self, batch, features, stage, epoch):
        """Draw masks over stacks: new ones every epoch, but always the same ones
        in evaluation, so that figures can be compared across epochs.

        Arguments
        ---------
        batch : SpeechBatch
            Its IDs key the masks.
        features : Features
            Says how long each row is.
        stage : sb.Stage
            Of training.
        epoch : int
            Of training.

        Returns
        -------
        torch.Tensor
            (B, stacks) bool.
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

    def compute_forward(self, batch, stage):
        """Predict the labels of masked stacks.

        Arguments
        ---------
        batch : SpeechBatch
            Signals.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        Prediction
        """
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
        logits = self.modules.linear(hidden[-1][mask])
        real = labels[features.real_stacks(labels.shape[1])]
        return Prediction(logits, labels[mask], real, features.lengths.sum())

    def draw_noise(self, like, batch, stage):
        """Noise that stands in for masked features.

        Arguments
        ---------
        like : torch.Tensor
            Gives shape and device.
        batch : SpeechBatch
            Keys the noise in evaluation.
        stage : sb.Stage
            In training the noise comes from the global generator.

        Returns
        -------
        torch.Tensor
            As `like`, with mean noise_mean and deviation noise_std.
        """
        generator = None
        if stage != sb.Stage.TRAIN:
            generator = torch.Generator(like.device)
            generator.manual_seed(seed_of(f"{self.hparams.seed}/{batch.ids[0]}"))
        noise = torch.randn(like.shape, device=like.device, generator=generator)
        return self.hparams.noise_mean + self.hparams.noise_std * noise

    def chunks(self, stage):
        """The attention chunks of this batch, where the YAML asks for streaming.

        Arguments
        ---------
        stage : sb.Stage
            Training draws at random.

        Returns
        -------
        DynChunkTrainConfig | None
        """
        if getattr(self.hparams, "streaming", False):
            return self.hparams.dynchunktrain_config_sampler(stage)
        return None

    def compute_objectives(self, predictions, batch, stage):
        """Mean cross-entropy over masked stacks, in nats; counts for the figures.

        Arguments
        ---------
        predictions : Prediction
            From `compute_forward`.
        batch : SpeechBatch
            Not needed.
        stage : sb.Stage
            Not needed.

        Returns
        -------
        torch.Tensor
            Scalar. With nothing masked 0, with a graph to every parameter.
        """
        logits, targets = predictions.logits.float(), predictions.targets
        loss = F.cross_entropy(logits, targets, reduction="sum")
        self.sums.add(
            loss=loss,
            correct=(logits.argmax(1) == targets).sum(),
            masked=torch.tensor(len(targets), device=self.device),
            frames=predictions.frames,
            targets=torch.bincount(targets, minlength=self.hparams.cb_vocab),
            counts=torch.bincount(predictions.labels, minlength=self.hparams.cb_vocab),
        )
        return loss / max(1, len(targets))

    def on_fit_start(self):
        """Restore the latest checkpoint; else gather statistics for the normaliser."""
        super().on_fit_start()
        normalize = self.modules.normalize
        if normalize.norm_type == "global" and normalize.count == 0:
            normalize.train()
            for batch in self.plain_train_batches:
                self.features(batch, epoch=0)

    def summarise(self, sums):
        """Turn sums into means.

        Arguments
        ---------
        sums : dict[str, torch.Tensor]
            As counted by `compute_objectives`.

        Returns
        -------
        dict[str, float]
            loss in nats a masked stack, accuracy there, perplexity of all labels.
        """
        masked = max(1.0, float(sums["masked"]))
        perplexity, _ = usage_of_counts(sums["counts"][None])
        return {
            "loss": float(sums["loss"]) / masked,
            "accuracy": float(sums["correct"]) / masked,
            "perplexity": float(perplexity),
        }
