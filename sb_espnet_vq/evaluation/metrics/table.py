"""The metrics of a codec by name: how to compute, title and install each."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sb_espnet_vq.evaluation.metrics.audio import Audio
from sb_espnet_vq.evaluation.metrics.perception import dnsmos, pesq, stoi
from sb_espnet_vq.evaluation.metrics.pitch import f0_error, voicing_error
from sb_espnet_vq.evaluation.metrics.signal import mel_distance, si_sdr, stft_distance
from sb_espnet_vq.evaluation.metrics.speaker import speaker_similarity


class Title(NamedTuple):
    """How a metric is shown.

    Arguments
    ---------
    column : str
        Name and unit, for a table.
    higher_is_better : bool
    """

    column: str
    higher_is_better: bool

    def axis(self) -> str:
        """Return a label for an axis: name, unit and direction."""
        better = "higher" if self.higher_is_better else "lower"
        return f"{self.column}, {better} is better"


class Metric(NamedTuple):
    """A metric of one utterance.

    Arguments
    ---------
    function : callable
        Takes the reconstruction and the recording (`Audio`); returns None where the
        metric is undefined.
    title : Title
    modules : tuple of str
        What it imports.
    extra : str
        Extra of this package that installs them.
    compares : bool
        Whether the recording is used.
    """

    function: Callable[[Audio, Audio], float | None]
    title: Title
    modules: tuple[str, ...] = ()
    extra: str = "metrics"
    compares: bool = True


METRICS: dict[str, Metric] = {
    "si_sdr": Metric(si_sdr, Title("SI-SDR (dB)", True), ("torchmetrics",), "recipes"),
    "mel_distance": Metric(
        mel_distance, Title("mel distance (dB)", False), ("torchaudio",), "recipes"
    ),
    "stft_distance": Metric(stft_distance, Title("STFT distance", False)),
    "stoi": Metric(stoi, Title("STOI", True), ("pystoi",), "recipes"),
    "pesq": Metric(pesq, Title("PESQ (MOS)", True), ("pesq", "torchaudio")),
    "f0_error": Metric(f0_error, Title("F0 error (cents)", False), ("pyworld",)),
    "voicing_error": Metric(
        voicing_error, Title("voicing error (share)", False), ("pyworld",)
    ),
    "speaker_similarity": Metric(
        speaker_similarity,
        Title("speaker similarity (cosine)", True),
        ("resemblyzer", "torchaudio"),
    ),
    "dnsmos": Metric(
        dnsmos,
        Title("DNSMOS (MOS)", True),
        ("onnxruntime", "speechmos.dnsmos", "torchaudio"),
        compares=False,
    ),
}

# Metrics of all test speech together, which the recipe computes.
TITLES: dict[str, Title] = {name: each.title for name, each in METRICS.items()} | {
    "dwer": Title("dWER (errors per word)", False),
    "real_time_factor": Title("real-time factor", False),
}


def missing_metrics(names: Iterable[str]) -> dict[str, str]:
    """Return the metrics whose libraries cannot be imported.

    Arguments
    ---------
    names : iterable of str
        Keys of `METRICS`.

    Returns
    -------
    dict[str, str]
        The command that installs what each of them needs, by name.

    Example
    -------
    >>> missing_metrics(["stft_distance"])
    {}
    """
    return {
        name: f"pip install 'sb_espnet_vq[{METRICS[name].extra}]'"
        for name in names
        if not all(map(_is_importable, METRICS[name].modules))
    }


def compare(
    estimate: Audio, target: Audio, names: Iterable[str]
) -> dict[str, float | None]:
    """Return some metrics of an utterance.

    Arguments
    ---------
    estimate, target : Audio
        The reconstruction and the recording, of one length.
    names : iterable of str
        Keys of `METRICS`.

    Returns
    -------
    dict[str, float or None]
        None where a metric is undefined.

    Example
    -------
    >>> import torch
    >>> audio = Audio(torch.linspace(-1, 1, 8000), 8000)
    >>> compare(audio, audio, ["stft_distance"])
    {'stft_distance': 0.0}
    """
    return {name: METRICS[name].function(estimate, target) for name in names}


def _is_importable(module: str) -> bool:
    # Not only found: pyworld and webrtcvad, which Resemblyzer imports, fail to import
    # without the pkg_resources of setuptools, and warn with it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module(module)
        except ImportError:
            return False
    return True
