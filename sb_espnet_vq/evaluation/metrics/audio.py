"""Audio of an utterance, and what metrics compute of it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Audio:
    """A signal and its sample rate; remembers what is computed of it.

    A recording is compared with several reconstructions, but its pitch, speaker
    embedding and words are computed once.

    Arguments
    ---------
    signal : torch.Tensor
        (L,) float32 on the CPU.
    sample_rate : int
        In Hz.

    Example
    -------
    >>> import torch
    >>> audio = Audio(torch.ones(8000), 8000)
    >>> audio.at(16000).shape
    torch.Size([16000])
    >>> audio.of(lambda each: float(each.signal.sum()))
    8000.0
    """

    def __init__(self, signal: Tensor, sample_rate: int):
        self.signal, self.sample_rate = signal, sample_rate
        self._known: dict[Callable[[Audio], Any], Any] = {}

    def of(self, function: Callable[[Audio], Any]) -> Any:
        """Return what a function returns of this audio, which it is called with once.

        Arguments
        ---------
        function : callable
            Takes an `Audio`.

        Returns
        -------
        Any
        """
        if function not in self._known:
            self._known[function] = function(self)
        return self._known[function]

    def at(self, sample_rate: int) -> Tensor:
        """Return the signal at another sample rate (Hz).

        Arguments
        ---------
        sample_rate : int
            In Hz.

        Returns
        -------
        torch.Tensor
            (L,) float32, by torchaudio's windowed sinc interpolation.
        """
        if sample_rate == self.sample_rate:
            return self.signal
        from torchaudio.functional import resample

        return resample(self.signal, self.sample_rate, sample_rate)

    def is_silent(self) -> bool:
        """Return whether all samples are the same."""
        return not len(self.signal) or bool((self.signal == self.signal[0]).all())
