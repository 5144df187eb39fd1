#!/usr/bin/env python3
"""Train the sound classifier that train.py explains.

> python recipes/PIQ/train_classifier.py hparams/PIQ/fsdd.yaml
"""

import speechbrain as sb
import torch
import torch.nn.functional as F
from data import labels_of, read_clips
from evaluate_classifier import evaluate, report
from runs import check_settings, note_settings, section
from speechbrain.utils.distributed import if_main_process, run_on_main
from torch import Tensor

from sb_espnet_vq.training.brain import ResumableBrain
from sb_espnet_vq.training.start import begin, make_brain, run_recipe
from sb_espnet_vq.utils.speech_batch import SpeechBatch


class ClipBrain(ResumableBrain):
    """Base class of both trainings; metrics are means over clips."""

    def spectrograms(self, batch: SpeechBatch) -> Tensor:
        """Return the spectrograms of a batch, (B, T, F)."""
        return self.hparams.spectrogram(batch.signals.to(self.device))

    def count(self, clips: int, **means: Tensor) -> None:
        """Add metrics of a batch, each given as a mean over its clips."""
        self.sums.add(
            clips=torch.tensor(clips, device=self.device),
            **{name: value * clips for name, value in means.items()},
        )

    def summarise(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the means over clips of all sums."""
        clips = max(1.0, float(sums["clips"]))
        return {n: float(v) / clips for n, v in sums.items() if n != "clips"}

    def speed(self, sums: dict[str, Tensor]) -> tuple[float, str]:
        """Count clips in the progress bar."""
        return float(sums.get("clips", 0)), "clips"


class ClassifierBrain(ClipBrain):
    """Trains the classifier; the best checkpoint has the lowest cross-entropy."""

    def compute_forward(self, batch: SpeechBatch, stage: sb.Stage) -> Tensor:
        """Return the logits of a batch, (B, n_classes)."""
        return self.modules.classifier(self.spectrograms(batch))[1]

    def compute_objectives(
        self, predictions: Tensor, batch: SpeechBatch, stage: sb.Stage
    ) -> Tensor:
        """Return the cross-entropy."""
        labels = labels_of(batch, vars(self.hparams)).to(self.device)
        loss = F.cross_entropy(predictions, labels)
        right = (predictions.argmax(1) == labels).float().mean()
        self.count(len(labels), loss=loss, accuracy=right)
        return loss


def main(arguments: list[str]) -> None:
    """Train, evaluate the best checkpoint on test clips, report."""
    hparams, run_opts = begin(arguments, check_settings)
    datasets = read_clips(hparams)
    run_on_main(note_settings, args=[hparams])
    hparams = section(hparams, "classifier")
    brain = make_brain(ClassifierBrain, hparams, run_opts)
    brain.train(datasets)
    # Loads the best checkpoint.
    brain.on_evaluate_start()
    if if_main_process():
        report(evaluate(brain, datasets), hparams["training_folder"])


if __name__ == "__main__":
    run_recipe(main)
