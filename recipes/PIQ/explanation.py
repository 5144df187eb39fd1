"""Explanation of one sound: the predicted class, PIQ's mask and the masked audio."""

from pathlib import Path
from typing import Any, NamedTuple

import soundfile
import torch
from torch import Tensor

from sb_espnet_vq.corpora import read_audio
from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.utils.files import atomic_file


class Explanation(NamedTuple):
    """A sound and its explanation."""

    label: str  # class predicted by the classifier
    probability: float  # of the label, for the whole sound
    kept: float  # of the label, for the masked input
    left: float  # of the label, for the complement of the masked input
    magnitudes: Tensor  # (T, F), of the short-time Fourier transform
    mask: Tensor  # (T, F)
    audio: Tensor  # (L,) float32, the masked sound, as long as the sound
    heard: float  # length of the classifier's input, in seconds

    def metrics(self) -> dict[str, Any]:
        """Return numbers and strings for JSON."""
        return {
            "class": self.label,
            "probability": self.probability,
            "probability_of_interpretation": self.kept,
            "probability_of_rest": self.left,
            "mask_density": float(self.mask.mean()),
            "seconds_heard": self.heard,
        }


def read_sound(path: Path, sample_rate: int) -> Tensor:
    """Read a file as (L,) float32 at a sample rate.

    Raises
    ------
    CorpusError
        If it cannot be read, or has samples that are not finite.
    """
    signal = read_audio(path, sample_rate)
    if not bool(signal.isfinite().all()):
        raise CorpusError(f"{path}: it has samples that are NaN or infinite")
    return signal


@torch.no_grad()
def explain(signal: Tensor, hparams: dict[str, Any]) -> Explanation:
    """Classify a sound (L,) with the models of a run, and explain the label.

    Samples beyond the classifier's input length are ignored.
    """
    spectrogram, classifier = hparams["spectrogram"], hparams["classifier"]
    transform = spectrogram.transform(signal[None])
    heard = transform.abs().log1p()
    representation, logits = classifier(heard)
    classes = logits.argmax(1)
    mask = hparams["interpreter"](representation, classes).mask
    # In one batch, so that equal inputs give exactly equal outputs.
    parts = torch.cat([heard, mask * heard, (1 - mask) * heard])
    outputs = classifier(parts)[1].double().softmax(1)[:, classes[0]]
    probability, kept, left = outputs.tolist()
    audio = torch.zeros_like(signal)
    length = min(len(signal), spectrogram.samples)
    audio[:length] = spectrogram.invert(mask * transform)[0, :length]
    return Explanation(
        label=hparams["classes"][int(classes)],
        probability=probability,
        kept=kept,
        left=left,
        magnitudes=transform[0].abs(),
        mask=mask[0],
        audio=audio,
        heard=length / hparams["sample_rate"],
    )


def write_audio(explanation: Explanation, path: Path, sample_rate: int) -> None:
    """Write the masked sound as a WAV file."""
    peak = max(1.0, float(explanation.audio.abs().max()))
    with atomic_file(path) as partial:
        soundfile.write(partial, (explanation.audio / peak).numpy(), sample_rate)


def draw(
    explanation: Explanation, title: str, path: Path, hparams: dict[str, Any]
) -> None:
    """Draw the sound, the mask and the masked sound as a PNG file."""
    from matplotlib.figure import Figure

    spectrogram = hparams["spectrogram"]
    hop = spectrogram.hop_length / hparams["sample_rate"]
    # The input of the classifier, without the padding after a short sound.
    frames = max(2, min(spectrogram.frames, round(explanation.heard / hop) + 1))
    sound, mask = explanation.magnitudes[:frames], explanation.mask[:frames]
    loudest = sound.max()
    level, weight = "level (dB below the maximum)", "0: irrelevant, 1: relevant"
    panels = [
        ("The sound", decibels(sound, loudest), "magma", (-60, 0), level),
        ("The mask: relevant regions", mask, "viridis", (0, 1), weight),
        (
            "The interpretation: the masked sound",
            decibels(mask * sound, loudest),
            "magma",
            (-60, 0),
            level,
        ),
    ]
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    figure.suptitle(
        plots.literal(f"{title}: classified as “{explanation.label}” ")
        + f"({percent(explanation.probability)})\n"
        f"interpretation: {percent(explanation.kept)}; complement: "
        f"{percent(explanation.left)}",
        fontweight="bold",
    )
    extent = (0, (frames - 1) * hop, 0, hparams["sample_rate"] / 2)
    for axes, (name, values, colours, limits, unit) in zip(
        figure.subplots(1, 3), panels, strict=True
    ):
        image = axes.imshow(
            values.T.numpy(),
            origin="lower",
            aspect="auto",
            extent=extent,
            vmin=limits[0],
            vmax=limits[1],
            cmap=colours,
            interpolation="nearest",
        )
        axes.set(title=name, xlabel="time (s)", ylabel="frequency (Hz)")
        figure.colorbar(image, ax=axes, label=unit)
    plots.save_figure(figure, path)


def decibels(magnitudes: Tensor, loudest: Tensor) -> Tensor:
    """Return levels relative to the maximum magnitude, down to -60 dB."""
    return 20 * (magnitudes / loudest.clamp(min=1e-9)).clamp(min=1e-3).log10()


def percent(probability: float) -> str:
    """Format a probability in percent."""
    return f"{100 * probability:.1f} %"
