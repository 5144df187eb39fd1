"""What the classifier hears in a sound, and what PIQ says that it listened to."""

from typing import NamedTuple

import soundfile
import torch

from sb_espnet_vq.corpora import read_audio
from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.utils.files import atomic_file


class Explanation(NamedTuple):
    """A sound and its explanation.

    label : str, what the classifier says; probability : of it, for the whole sound;
    kept, left : of it, for what the mask keeps and leaves out; magnitudes, mask :
    (T, F), of the short-time Fourier transform; audio : (L,) float32, what the mask
    keeps, as long as the sound; heard : seconds from the start that the
    classifier heard.
    """

    label: str
    probability: float
    kept: float
    left: float
    magnitudes: torch.Tensor
    mask: torch.Tensor
    audio: torch.Tensor
    heard: float

    def figures(self):
        """Plain numbers and texts."""
        return {
            "class": self.label,
            "probability": self.probability,
            "probability_of_interpretation": self.kept,
            "probability_of_rest": self.left,
            "mask_density": float(self.mask.mean()),
            "seconds_heard": self.heard,
        }


def read_sound(path, sample_rate):
    """Read a file.

    Arguments
    ---------
    path : Path
        Audio.
    sample_rate : int
        Wanted, in Hz.

    Returns
    -------
    torch.Tensor
        (L,) float32.

    Raises
    ------
    CorpusError
        It cannot be read, or holds what is not a number.
    """
    signal = read_audio(path, sample_rate)
    if not bool(signal.isfinite().all()):
        raise CorpusError(f"{path}: it has samples that are no finite numbers")
    return signal


@torch.no_grad()
def explain(signal, hparams):
    """Classify a sound, and interpret what the classifier says.

    Arguments
    ---------
    signal : torch.Tensor
        (L,) float32. What is longer than the classifier hears is cut.
    hparams : dict
        From `load_run`.

    Returns
    -------
    Explanation
    """
    spectrogram, classifier = hparams["spectrogram"], hparams["classifier"]
    transform = spectrogram.transform(signal[None])
    heard = transform.abs().log1p()
    representation, logits = classifier(heard)
    classes = logits.argmax(1)
    mask = hparams["interpreter"](representation, classes).mask
    # In one batch with the whole, so that equal input gives equal output.
    parts = torch.cat([heard, mask * heard, (1 - mask) * heard])
    said = classifier(parts)[1].double().softmax(1)[:, classes[0]].tolist()
    audio = torch.zeros_like(signal)
    length = min(len(signal), spectrogram.samples)
    audio[:length] = spectrogram.invert(mask * transform)[0, :length]
    seconds = length / hparams["sample_rate"]
    name = hparams["classes"][int(classes)]
    return Explanation(name, *said, transform[0].abs(), mask[0], audio, seconds)


def write_audio(explanation, path, sample_rate):
    """Write the interpretation.

    Arguments
    ---------
    explanation : Explanation
        Of a sound.
    path : Path
        The WAV file.
    sample_rate : int
        In Hz.
    """
    peak = max(1.0, float(explanation.audio.abs().max()))
    with atomic_file(path) as partial:
        soundfile.write(partial, (explanation.audio / peak).numpy(), sample_rate)


def draw(explanation, title, path, hparams):
    """Draw the sound, the mask and what it keeps.

    Arguments
    ---------
    explanation : Explanation
        Of a sound.
    title : str
        Name of the sound.
    path : Path
        The PNG file.
    hparams : dict
        From `load_run`.
    """
    from matplotlib.figure import Figure

    spectrogram = hparams["spectrogram"]
    hop = spectrogram.hop_length / hparams["sample_rate"]
    # What the classifier heard, without the padding after a short sound.
    frames = max(2, min(spectrogram.frames, round(explanation.heard / hop) + 1))
    sound, mask = explanation.magnitudes[:frames], explanation.mask[:frames]
    loudest = sound.max()
    level, weight = "level (dB below the loudest)", "0: ignored, 1: listened to"
    panels = [
        ("The sound", decibels(sound, loudest), "magma", (-60, 0), level),
        ("The mask: where the classifier listened", mask, "viridis", (0, 1), weight),
        (
            "The interpretation: what remains",
            decibels(mask * sound, loudest),
            "magma",
            (-60, 0),
            level,
        ),
    ]
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    figure.suptitle(
        plots.literal(f"{title}: the classifier hears “{explanation.label}” ")
        + f"({percent(explanation.probability)})\n"
        f"from the interpretation alone: {percent(explanation.kept)}; from the rest "
        f"without it: {percent(explanation.left)}",
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


def decibels(magnitudes, loudest):
    """Levels below the loudest, down to -60 dB.

    Arguments
    ---------
    magnitudes : torch.Tensor
        Any shape.
    loudest : torch.Tensor
        Scalar, what 0 dB is.

    Returns
    -------
    torch.Tensor
    """
    return 20 * (magnitudes / loudest.clamp(min=1e-9)).clamp(min=1e-3).log10()


def percent(probability):
    """A probability as text.

    Arguments
    ---------
    probability : float

    Returns
    -------
    str
    """
    return f"{100 * probability:.1f} %"
