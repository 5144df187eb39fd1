#!/usr/bin/env python3
"""Pretrain an encoder by contrastive prediction of quantized frames (wav2vec 2.0).

Baevski et al. 2020, https://arxiv.org/abs/2006.11477. A front end converts speech to
latent frames; spans of these are masked, and the encoder must discriminate the
quantized latent frame of each masked position from those of other masked positions.

> python recipes/wav2vec2/train.py hparams/wav2vec2/fsdd.yaml
> torchrun --nproc-per-node=2 recipes/wav2vec2/train.py hparams/wav2vec2/fsdd.yaml \
      --distributed_backend=gloo
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import speechbrain as sb
import torch
import torch.nn.functional as F
from evaluate import evaluate, report
from speechbrain.utils.distributed import if_main_process
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.usage import usage_of_counts
from sb_espnet_vq.ssl.contrastive_scores import contrastive_logits
from sb_espnet_vq.ssl.negatives import sample_negatives
from sb_espnet_vq.ssl.span_masks import span_masks
from sb_espnet_vq.training.brain import ResumableBrain
from sb_espnet_vq.training.checkpoints import TrainingRecord
from sb_espnet_vq.training.data import make_loader, read_datasets
from sb_espnet_vq.training.start import begin, make_brain, run_recipe
from sb_espnet_vq.utils.speech_batch import SpeechBatch


class Networks(NamedTuple):
    """The networks of a model, with or without DDP wrappers."""

    front_end: nn.Module
    latent_encoder: nn.Module
    feat_proj: nn.Module
    target_quantiser: nn.Module

    @classmethod
    def of(cls, hparams: dict[str, Any]) -> "Networks":
        """Return the networks of the YAML, without DDP wrappers."""
        return cls(*(hparams[name] for name in cls._fields))


class Latents(NamedTuple):
    """Latent frames of a batch."""

    frames: Tensor  # (B, T, C)
    lengths: Tensor  # (B,) int64, valid frames
    valid: Tensor  # (B, T) bool


class Targets(NamedTuple):
    """Quantized latent frames of a batch."""

    values: Tensor  # (B, T, final_dim), 0 in the padding
    diversity: Tensor  # scalar loss
    counts: Tensor  # (K, num_vars) int64, number of frames of each code
    temperature: float  # of the quantizer


class Contrast(NamedTuple):
    """Logits of the candidates (positive and negatives) of N masked frames."""

    logits: Tensor  # (N, 1 + negatives), the positive first
    diversity: Tensor  # scalar loss
    counts: Tensor  # (K, num_vars) int64, number of frames of each code
    temperature: float  # of the quantizer


class Wav2Vec2Brain(ResumableBrain):
    """Trains and evaluates the model; the YAML file documents the hyperparameters."""

    # Not the loss: with few codes in use the task is easy, so the loss is lowest after
    # a collapse onto one code.
    min_key = "nats_above_chance"

    def networks(self) -> Networks:
        """Return the model under training."""
        return Networks(*(getattr(self.modules, name) for name in Networks._fields))

    def latents(self, batch: SpeechBatch, networks: Networks) -> Latents:
        """Compute the latent frames of a batch."""
        samples = batch.samples.to(self.device)
        frames = networks.front_end(batch.signals.to(self.device), samples)
        lengths = unwrap(networks.front_end).lengths(samples)
        steps = torch.arange(frames.shape[1], device=self.device)
        return Latents(frames, lengths, steps < lengths[:, None])

    def encode(
        self, latents: Latents, encoder: nn.Module, mask: Tensor | None = None
    ) -> Tensor:
        """Run the encoder, (B, T, embedding_dim); `mask` (B, T) marks masked frames."""
        padding = ~latents.valid
        # Keep at least one frame per row: attention over no frame gives NaN.
        padding[:, 0] = False
        return encoder(latents.frames, padding_mask=padding, mask=mask)["embeddings"]

    def layer_output(self, latents: Latents, encoder: Any, layer: int) -> Tensor:
        """Return the output of an encoder layer, counted from 1.

        -1 is the normalized output of the last layer, the only one that SpeechBrain's
        wrapper returns.
        """
        if layer == -1:
            return self.encode(latents, encoder)
        with outputs_of(encoder.latent_encoder.layers[layer - 1]) as outputs:
            self.encode(latents, encoder)
        return outputs[0][0]

    def quantize(self, latents: Latents, target_quantiser: nn.Module) -> Targets:
        """Quantize all valid frames; the quantizer gets no padding."""
        quantiser: Any = unwrap(target_quantiser).quantiser
        # SpeechBrain's wrapper does not return the codes.
        with outputs_of(quantiser) as outputs:
            targets, meta = target_quantiser(latents.frames[latents.valid][None])
        values = targets.new_zeros(*latents.valid.shape, targets.shape[-1])
        values = values.masked_scatter(latents.valid[..., None], targets)
        # A non-finite frame has no code; it makes the loss NaN.
        columns = [codes[codes >= 0] for codes in outputs[0]["codes"][0].T]
        size = quantiser.quantizer.codebook_size
        counts = torch.stack([torch.bincount(c, minlength=size) for c in columns])
        return Targets(values, meta["diversity_loss"], counts, float(meta["temp"]))

    def compute_forward(self, batch: SpeechBatch, stage: sb.Stage) -> Contrast:
        """Return the logits of the candidates of each masked frame."""
        return self.contrast(batch, stage, self.networks())

    def contrast(
        self, batch: SpeechBatch, stage: sb.Stage, networks: Networks
    ) -> Contrast:
        """Return the logits of the candidates with the given networks.

        Masks and negatives differ in every epoch of training and are constant in
        evaluation, so that metrics can be compared across epochs.
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
        targets = self.quantize(latents, networks.target_quantiser)
        logits = contrastive_logits(
            networks.feat_proj(embeddings),
            targets.values,
            mask,
            negatives,
            self.hparams.logit_temperature,
        )
        return Contrast(logits, *targets[1:])

    def compute_objectives(
        self, predictions: Contrast, batch: SpeechBatch, stage: sb.Stage
    ) -> Tensor:
        """Return contrastive loss (mean over masked frames, nats) plus diversity loss.

        If nothing is masked, the loss is still connected to all parameters.
        """
        contrastive = self.count(self.sums, predictions)
        return contrastive + self.hparams.diversity_weight * predictions.diversity

    def count(self, sums: TrainingRecord, predictions: Contrast) -> Tensor:
        """Add a batch to sums for `summarise`; return its mean contrastive loss."""
        logits = predictions.logits
        first = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        loss = F.cross_entropy(logits, first, reduction="sum")
        candidates = logits.isfinite().sum(1).clamp(min=1)
        masked = torch.tensor(float(len(logits)), device=logits.device)
        sums.add(
            loss=loss,
            # A tie counts as incorrect, a target without negatives as correct.
            correct=(logits[:, :1] > logits[:, 1:]).all(1).sum(),
            masked=masked,
            chance=(1 / candidates).sum(),
            chance_loss=candidates.log().sum(),
            counts=predictions.counts,
            frames=predictions.counts[0].sum(),
            temperature=predictions.temperature * masked,
        )
        return loss / max(1, len(logits))

    def on_fit_start(self) -> None:
        """Restore the latest checkpoint, or collect statistics for the front end."""
        fresh = self.checkpointer is None or not self.checkpointer.list_checkpoints()
        super().on_fit_start()
        if fresh:
            unwrap(self.modules.front_end).gather(self.plain_train_batches)

    def on_fit_batch_start(self, batch: SpeechBatch, should_step: bool) -> None:
        """Set the learning rate and the quantizer's temperature for this step."""
        super().on_fit_batch_start(batch, should_step)
        quantiser = unwrap(self.modules.target_quantiser).quantiser
        quantiser.update_temp(self.optimizer_step)

    def summarise(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return means over masked frames (losses in nats), and code usage.

        `chance` is the chance level of accuracy; perplexity is summed over codebooks.
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


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Any]]:
    """Collect the outputs of a submodule within this context."""
    outputs: list[Any] = []
    hook = module.register_forward_hook(lambda *call: outputs.append(call[2]))
    try:
        yield outputs
    finally:
        hook.remove()


def unwrap(module: Any) -> Any:
    """Return the module inside a DDP wrapper, or the module itself."""
    wrapped = nn.parallel.DistributedDataParallel
    return module.module if isinstance(module, wrapped) else module


def main(arguments: list[str]) -> None:
    """Train, evaluate the best checkpoint on test speech, report."""
    hparams, run_opts = begin(arguments, check_settings)
    datasets = read_datasets(hparams)
    brain = make_brain(Wav2Vec2Brain, hparams, run_opts)
    untrained = copy.deepcopy(Networks.of(hparams))
    brain.train(datasets)
    brain.evaluate(make_loader(datasets["test"], hparams))
    if if_main_process():
        models = {"trained": Networks.of(hparams), "untrained": untrained}
        report(evaluate(brain, datasets, models), hparams["output_folder"])


def check_settings(hparams: dict[str, Any]) -> None:
    """Raise ConfigError for inconsistent values, before any file is written."""
    if "stack" in hparams:
        width = ("n_mels * stack", hparams["n_mels"] * hparams["stack"])
    else:
        width = ("the last of extractor_channels", hparams["extractor_channels"][-1])
    if hparams["latent_dim"] != width[1]:
        raise ConfigError(
            f"latent_dim must be {width[0]} = {width[1]}, not {hparams['latent_dim']}"
        )
    layers = hparams["num_encoder_layers"]
    if hparams["probe_layer"] not in (-1, *range(1, layers + 1)):
        raise ConfigError(
            f"probe_layer must be 1 ... {layers} (num_encoder_layers), or -1 for the "
            f"encoder's output, not {hparams['probe_layer']}"
        )


if __name__ == "__main__":
    run_recipe(main)
