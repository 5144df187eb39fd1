#!/usr/bin/env python3
"""Train PIQ to explain a frozen sound classifier, and evaluate the explanations.

> python recipes/PIQ/train_classifier.py hparams/PIQ/fsdd.yaml
> python recipes/PIQ/train.py hparams/PIQ/fsdd.yaml
"""

import copy
from typing import NamedTuple

import speechbrain as sb
import torch
import torch.nn.functional as F
from data import read_clips
from evaluate import evaluate, report
from networks import Interpretation
from runs import check_settings, freeze, load_classifier, section
from speechbrain.utils.distributed import if_main_process
from torch import Tensor
from train_classifier import ClipBrain

from sb_espnet_vq.training.start import begin, make_brain, run_recipe
from sb_espnet_vq.utils.speech_batch import SpeechBatch


class Explained(NamedTuple):
    """A batch, the predicted classes and their interpretation."""

    spectrograms: Tensor  # (B, T, F)
    classes: Tensor  # (B,) int64
    output: Interpretation


class PIQBrain(ClipBrain):
    """Trains the interpreter; the best checkpoint has the lowest loss.

    The classifier is not in `modules`, which SpeechBrain switches to training mode.
    """

    def on_fit_start(self) -> None:
        """Freeze the classifier, move it to the device, then do as the parent class."""
        freeze(self.hparams.classifier).to(self.device)
        super().on_fit_start()

    def compute_forward(self, batch: SpeechBatch, stage: sb.Stage) -> Explained:
        """Return the predicted classes of a batch and their interpretation."""
        spectrograms = self.spectrograms(batch)
        with torch.no_grad():
            representation, logits = self.hparams.classifier(spectrograms)
        classes = logits.argmax(1)
        output = self.modules.interpreter(representation, classes)
        return Explained(spectrograms, classes, output)

    def compute_objectives(
        self, predictions: Explained, batch: SpeechBatch, stage: sb.Stage
    ) -> Tensor:
        """Return the weighted sum of all losses; each is also recorded unweighted."""
        spectrograms, classes, output = predictions
        hparams, mask = self.hparams, output.mask
        maximum = spectrograms.amax((1, 2), keepdim=True)
        target = (spectrograms > hparams.mask_threshold * maximum).float()
        # With weight 0 the term is only recorded, so it needs no gradient.
        with torch.set_grad_enabled(
            torch.is_grad_enabled() and hparams.fidelity_weight > 0
        ):
            kept = hparams.classifier(mask * spectrograms)[1]
        terms = {
            "mask": F.binary_cross_entropy_with_logits(output.logits, target),
            "vq": F.mse_loss(output.keys, output.vectors.detach()),
            "commitment": F.mse_loss(output.vectors, output.keys.detach()),
            "fidelity": F.cross_entropy(kept, classes),
        }
        loss = sum(getattr(hparams, f"{n}_weight") * term for n, term in terms.items())
        metrics = {
            "input_fidelity": (kept.argmax(1) == classes).float().mean(),
            "mask_density": mask.mean(),
        }
        self.count(len(classes), loss=loss, **terms, **metrics)
        return loss


def main(arguments: list[str]) -> None:
    """Train, evaluate the best checkpoint on test clips, report."""
    hparams, run_opts = begin(arguments, check_settings)
    load_classifier(hparams)
    datasets = read_clips(hparams)
    hparams = section(hparams, "piq")
    brain = make_brain(PIQBrain, hparams, run_opts)
    untrained = copy.deepcopy(hparams["interpreter"])
    brain.train(datasets)
    # Loads the best checkpoint.
    brain.on_evaluate_start()
    if if_main_process():
        report(evaluate(brain, datasets, untrained), hparams["training_folder"])


if __name__ == "__main__":
    run_recipe(main)
