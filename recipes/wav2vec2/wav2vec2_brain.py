"""Contrastive prediction of quantized frames (wav2vec 2.0) as a SpeechBrain Brain.

wav2vec 2.0: Baevski et al. 2020, https://arxiv.org/abs/2006.11477. A front end turns
speech into latent frames; spans of them are masked, and the encoder must tell the
quantized latent of each masked frame from those of other masked frames.
"""

from typing import NamedTuple

import speechbrain as sb
import torch
import torch.nn.functional as F

from sb_espnet_vq.ops.usage import usage_of_counts
from sb_espnet_vq.ssl.contrastive_scores import contrastive_logits
from sb_espnet_vq.ssl.negatives import sample_negatives
from sb_espnet_vq.ssl.span_masks import span_masks
from sb_espnet_vq.training.brain import ResumableBrain


class Networks(NamedTuple):
    """The parts of the model, trained or not, wrapped for several processes or not."""

    front_end: torch.nn.Module
    latent_encoder: torch.nn.Module
    feat_proj: torch.nn.Module
    target_quantiser: torch.nn.Module


class Latents(NamedTuple):
    """Latent frames of a batch.

    frames : (B, T, C); lengths : (B,) int64, real frames; real : (B, T) bool.
    """

    frames: torch.Tensor
    lengths: torch.Tensor
    real: torch.Tensor


class Contrast(NamedTuple):
    """What the model made of a batch with N masked frames.

    logits : (N, 1 + negatives), of the right target first; diversity : scalar loss;
    counts : (K, V) int64, frames of each code; temperature : of the quantizer.
    """

    logits: torch.Tensor
    diversity: torch.Tensor
    counts: torch.Tensor
    temperature: float


class Wav2Vec2Brain(ResumableBrain):
    """Trains and evaluates; see the hparams for what each name stands for."""

    # Not the loss: with fewer codes in use there is less to tell apart, so that the
    # loss is least where everything has collapsed onto one code.
    min_key = "nats_above_chance"

    def networks(self):
        """The model under training.

        Returns
        -------
        Networks
        """
        return Networks(*(getattr(self.modules, name) for name in Networks._fields))

    def latents(self, batch, networks):
        """Run the front end.

        Arguments
        ---------
        batch : SpeechBatch
            Signals and their lengths.
        networks : Networks
            The model.

        Returns
        -------
        Latents
        """
        samples = batch.samples.to(self.device)
        frames = networks.front_end(batch.signals.to(self.device), samples)
        lengths = unwrap(networks.front_end).lengths(samples)
        steps = torch.arange(frames.shape[1], device=self.device)
        return Latents(frames, lengths, steps < lengths[:, None])

    def encode(self, latents, encoder, mask=None):
        """Run the encoder.

        Arguments
        ---------
        latents : Latents
            From the front end.
        encoder : torch.nn.Module
            The encoder of a model.
        mask : torch.Tensor, optional
            (B, T) bool, True at frames to hide.

        Returns
        -------
        torch.Tensor
            (B, T, embedding_dim).
        """
        padding = ~latents.real
        # Attention over nothing is not a number: even the shortest gets a frame.
        padding[:, 0] = False
        return encoder(latents.frames, padding_mask=padding, mask=mask)["embeddings"]

    def compute_forward(self, batch, stage):
        """Score the right targets and the wrong ones.

        Arguments
        ---------
        batch : SpeechBatch
            Signals.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        Contrast
        """
        return self.contrast(batch, stage, self.networks())

    def contrast(self, batch, stage, networks):
        """The same, of any model.

        Arguments
        ---------
        batch : SpeechBatch
            Signals.
        stage : sb.Stage
            New masks and negatives are drawn every epoch of training; in evaluation
            always the same, so that figures can be compared.
        networks : Networks
            The model.

        Returns
        -------
        Contrast
        """
        latents = self.latents(batch, networks)
        epoch = self.hparams.epoch_counter.current
        when = epoch if stage == sb.Stage.TRAIN else "held-out"
        keys = [f"{self.hparams.seed}/{when}/{name}" for name in batch.ids]
        mask = span_masks(
            latents.lengths.tolist(),
            keys,
            start_prob=self.hparams.mask_prob,
            span=self.hparams.mask_length,
            total=latents.frames.shape[1],
        ).to(self.device)
        negatives = sample_negatives(
            mask, [f"{key}/negatives" for key in keys], self.hparams.num_negatives
        )
        embeddings = self.encode(latents, networks.latent_encoder, mask)
        targets, meta = self.quantize(latents, networks.target_quantiser)
        logits = contrastive_logits(
            networks.feat_proj(embeddings),
            targets,
            mask,
            negatives,
            self.hparams.logit_temperature,
        )
        counts = self.count_codes(latents, networks.target_quantiser)
        return Contrast(logits, meta["diversity_loss"], counts, float(meta["temp"]))

    def quantize(self, latents, target_quantiser):
        """Targets of all real frames. The quantizer never sees padding.

        Arguments
        ---------
        latents : Latents
            From the front end.
        target_quantiser : torch.nn.Module
            Of a model.

        Returns
        -------
        targets : torch.Tensor
            (B, T, final_dim), 0 in the padding.
        meta : dict
            As `W2VTargetQuantiser` returns it.
        """
        found, meta = target_quantiser(latents.frames[latents.real][None])
        targets = found.new_zeros(*latents.real.shape, found.shape[-1])
        return targets.masked_scatter(latents.real[..., None], found), meta

    @torch.no_grad()
    def count_codes(self, latents, target_quantiser):
        """Count the codes of real frames, those that evaluation would choose.

        Arguments
        ---------
        latents : Latents
            From the front end.
        target_quantiser : torch.nn.Module
            Of a model.

        Returns
        -------
        torch.Tensor
            (codebooks, entries) int64.
        """
        quantizer = unwrap(target_quantiser).quantiser.quantizer
        codes = quantizer.encode(latents.frames[latents.real][None])[0]
        size = quantizer.codebook_size
        # A frame that is not finite has no code; the loss shows it to the trainer.
        columns = [column[column >= 0] for column in codes.T]
        return torch.stack([torch.bincount(c, minlength=size) for c in columns])

    def compute_objectives(self, predictions, batch, stage):
        """Contrastive loss (mean over masked frames, nats) and weighted diversity loss.

        Arguments
        ---------
        predictions : Contrast
            From `compute_forward`.
        batch : SpeechBatch
            Not needed.
        stage : sb.Stage
            Not needed.

        Returns
        -------
        torch.Tensor
            Scalar. With nothing masked it has a graph to every parameter all the same.
        """
        contrastive = self.count(self.sums, predictions)
        return contrastive + self.hparams.diversity_weight * predictions.diversity

    def count(self, sums, predictions):
        """Add a batch to sums that `summarise` understands.

        Arguments
        ---------
        sums : TrainingRecord
            Changed.
        predictions : Contrast
            Of the batch.

        Returns
        -------
        torch.Tensor
            Scalar, mean contrastive loss.
        """
        logits = predictions.logits
        right = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        loss = F.cross_entropy(logits, right, reduction="sum")
        candidates = logits.isfinite().sum(1).clamp(min=1)
        masked = torch.tensor(float(len(logits)), device=logits.device)
        sums.add(
            loss=loss,
            # A tie is not told apart; alone there is nothing to tell it from.
            correct=(logits[:, :1] > logits[:, 1:]).all(1).sum(),
            masked=masked,
            chance=(1 / candidates).sum(),
            chance_loss=candidates.log().sum(),
            counts=predictions.counts,
            frames=predictions.counts[0].sum(),
            temperature=predictions.temperature * masked,
        )
        return loss / max(1, len(logits))

    def on_fit_start(self):
        """Restore the latest checkpoint; else gather statistics for the front end."""
        fresh = self.checkpointer is None or not self.checkpointer.list_checkpoints()
        super().on_fit_start()
        if fresh:
            unwrap(self.modules.front_end).gather(self.plain_train_batches)

    def on_fit_batch_start(self, batch, should_step):
        """Set the learning rate and the quantizer's temperature by the step number."""
        super().on_fit_batch_start(batch, should_step)
        quantiser = unwrap(self.modules.target_quantiser).quantiser
        quantiser.update_temp(self.optimizer_step)

    def summarise(self, sums):
        """Turn sums into means.

        Arguments
        ---------
        sums : dict[str, torch.Tensor]
            As counted by `count`.

        Returns
        -------
        dict[str, float]
            loss in nats a masked frame, and above that of guessing; accuracy and the
            accuracy of guessing; perplexity of codes, summed over codebooks; mean
            temperature of the quantizer.
        """
        masked = max(1.0, float(sums["masked"]))
        means = {
            name: float(sums[name]) / masked
            for name in ("loss", "chance_loss", "chance", "temperature")
        }
        perplexity, _ = usage_of_counts(sums["counts"])
        return {
            "loss": means["loss"],
            "nats_above_chance": means["loss"] - means["chance_loss"],
            "accuracy": float(sums["correct"]) / masked,
            "chance": means["chance"],
            "perplexity": float(perplexity) * len(sums["counts"]),
            "temperature": means["temperature"],
        }


def unwrap(module):
    """The module itself, where it is wrapped for training in several processes.

    Arguments
    ---------
    module : torch.nn.Module
        Possibly wrapped.

    Returns
    -------
    torch.nn.Module
    """
    wrapped = torch.nn.parallel.DistributedDataParallel
    return module.module if isinstance(module, wrapped) else module
