"""What a recognizer gets of speech: the interface, and log-mel features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sb_espnet_vq.corpora.audio import read_audio
from sb_espnet_vq.utils.speech_batch import SpeechBatch


class Input(nn.Module):
    """Computes the frames of a recognizer.

    Attributes
    ----------
    name : str
        For tables.
    width : int
        Size of a frame.
    sample_rate : int
        Sample rate in Hz of the audio that `read` expects; None if any.
    in_memory : bool
        Whether what `read` returns is kept, as it is small and takes time.
    """

    in_memory = False
    name: str
    width: int
    sample_rate: int | None = None

    def read(self, path: str | Path, sample_rate: int) -> Tensor:
        """Return what a batch holds of an audio file, as ``prepare`` does."""
        return self.prepare(read_audio(path, sample_rate))

    def prepare(self, signal: Tensor) -> Tensor:
        """Return what a batch holds of a signal (L,): (L, ...), here the signal."""
        return signal

    def gather(self, batches: Iterable[SpeechBatch]) -> None:
        """Collect statistics of the training set, if any are needed."""

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the pretrained parameters that are trained further."""
        return []

    @abstractmethod
    def forward(self, signals: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames (B, T, width) and their number (B,), at least 1.

        The arguments are a padded batch of what `read` returns and its lengths (B,).
        """


class LogMelInput(Input):
    """Normalized log-mel features.

    Arguments
    ---------
    front_end : LogMelFrontEnd
        Computes them.
    """

    name = "log-mel features"

    def __init__(self, front_end: Any):
        super().__init__()
        self.front_end = front_end
        self.width = len(front_end.normalize.mean) * front_end.stack_frames.stack

    def gather(self, batches: Iterable[SpeechBatch]) -> None:
        """Collect the statistics of the normalization."""
        self.front_end.gather(batches)

    def forward(self, signals: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of signals (B, L)."""
        frames = self.front_end(signals, samples)
        return frames, self.front_end.lengths(samples).clamp(min=1)
