"""Training of the classifier, and of the interpreter over it, as Brains."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from piq_data import freeze, labels_of
from piq_models import Interpretation

from sb_espnet_vq.training.brain import ResumableBrain


class ClipBrain(ResumableBrain):
    """What both trainings share: figures are means over clips."""

    def spectrograms(self, batch):
        """Return the spectrograms of a batch.

        Arguments
        ---------
        batch : SpeechBatch
            Signals.

        Returns
        -------
        torch.Tensor
            (B, T, F).
        """
        return self.hparams.spectrogram(batch.signals.to(self.device))

    def count(self, clips, **means):
        """Count the figures of a batch.

        Arguments
        ---------
        clips : int
            Clips in it.
        **means : torch.Tensor
            Scalars, each a mean over clips.
        """
        self.sums.add(
            clips=torch.tensor(clips, device=self.device),
            **{name: value * clips for name, value in means.items()},
        )

    def summarise(self, sums):
        """Turn sums into means over clips.

        Arguments
        ---------
        sums : dict[str, torch.Tensor]
            As counted by `count`.

        Returns
        -------
        dict[str, float]
        """
        clips = max(1.0, float(sums["clips"]))
        return {n: float(v) / clips for n, v in sums.items() if n != "clips"}

    def speed(self, sums):
        """Clips.

        Arguments
        ---------
        sums : dict[str, torch.Tensor]
            Of this epoch so far.

        Returns
        -------
        tuple[float, str]
        """
        return float(sums.get("clips", 0)), "clips"


class ClassifierBrain(ClipBrain):
    """Trains the classifier; the best checkpoint has the least cross-entropy."""

    def compute_forward(self, batch, stage):
        """Classify a batch.

        Arguments
        ---------
        batch : SpeechBatch
            Signals.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        torch.Tensor
            (B, n_classes) logits.
        """
        return self.modules.classifier(self.spectrograms(batch))[1]

    def compute_objectives(self, predictions, batch, stage):
        """Cross-entropy.

        Arguments
        ---------
        predictions : torch.Tensor
            (B, n_classes) logits.
        batch : SpeechBatch
            For its clips' classes.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        torch.Tensor
            Scalar.
        """
        labels = labels_of(batch, vars(self.hparams)).to(self.device)
        loss = F.cross_entropy(predictions, labels)
        right = (predictions.argmax(1) == labels).float().mean()
        self.count(len(labels), loss=loss, accuracy=right)
        return loss


class Explained(NamedTuple):
    """A batch, what the classifier said of it, and the interpretation.

    spectrograms : (B, T, F); classes : (B,) int64, those that the classifier says;
    found : Interpretation.
    """

    spectrograms: torch.Tensor
    classes: torch.Tensor
    found: Interpretation


class PIQBrain(ClipBrain):
    """Trains the interpreter; the best checkpoint has the least loss.

    The classifier is no part of `modules`, which SpeechBrain puts into training mode.
    """

    def on_fit_start(self):
        """Freeze the classifier where it will be used, then as in the parent class."""
        freeze(self.hparams.classifier).to(self.device)
        super().on_fit_start()

    def compute_forward(self, batch, stage):
        """Interpret a batch.

        Arguments
        ---------
        batch : SpeechBatch
            Signals.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        Explained
        """
        spectrograms = self.spectrograms(batch)
        with torch.no_grad():
            representation, logits = self.hparams.classifier(spectrograms)
        classes = logits.argmax(1)
        found = self.modules.interpreter(representation, classes)
        return Explained(spectrograms, classes, found)

    def compute_objectives(self, predictions, batch, stage):
        """The weighted sum of all losses; counts for the figures.

        Arguments
        ---------
        predictions : Explained
            From `compute_forward`.
        batch : SpeechBatch
            Not needed.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        torch.Tensor
            Scalar.
        """
        spectrograms, classes, found = predictions
        hparams, mask = self.hparams, found.mask
        loudest = spectrograms.amax((1, 2), keepdim=True)
        wanted = (spectrograms > hparams.mask_threshold * loudest).float()
        # Where it has no weight, the figure alone is wanted.
        with torch.set_grad_enabled(
            torch.is_grad_enabled() and hparams.fidelity_weight > 0
        ):
            kept = hparams.classifier(mask * spectrograms)[1]
        terms = {
            "mask": F.binary_cross_entropy_with_logits(found.logits, wanted),
            "vq": F.mse_loss(found.keys, found.vectors.detach()),
            "commitment": F.mse_loss(found.vectors, found.keys.detach()),
            "fidelity": F.cross_entropy(kept, classes),
        }
        loss = sum(getattr(hparams, f"{n}_weight") * term for n, term in terms.items())
        figures = {
            "input_fidelity": (kept.argmax(1) == classes).float().mean(),
            "mask_density": mask.mean(),
        }
        self.count(len(classes), loss=loss, **terms, **figures)
        return loss
