"""Front ends: modules that compute the latent frames of signals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.ssl.normalization import CorpusNormalization
from sb_espnet_vq.utils.speech_batch import SpeechBatch

# Batches for the data-dependent initialization: enough to estimate the mean and
# standard deviation of each channel.
START_BATCHES = 4


class StackFrames(nn.Module):
    """Stacks groups of ``stack`` frames, with zero padding at the end.

    For encoders that flatten all axes after the second, as SpeechBrain's transformers
    do.

    Arguments
    ---------
    stack : int
        Frames in a group.

    Raises
    ------
    ConfigError
        If ``stack`` is not an integer of at least 1.

    Example
    -------
    >>> StackFrames(4)(torch.ones(2, 9, 80)).shape
    torch.Size([2, 3, 4, 80])
    """

    def __init__(self, stack: int):
        super().__init__()
        self.stack = positive_int("stack", stack)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Stack frames (B, T, D) into (B, ceil(T / stack), stack, D)."""
        padded = F.pad(frames, (0, 0, 0, -frames.shape[1] % self.stack))
        return padded.unflatten(1, (-1, self.stack))


class LogMelFrontEnd(nn.Module):
    """Log-mel frames, normalized over the corpus and stacked.

    Arguments
    ---------
    compute_features : callable
        Computes (B, T, n_mels) features of (B, samples) signals, one frame per ``hop``.
    n_mels : int
        Number of mel bands.
    hop : int
        Hop size in samples.
    stack : int
        Number of log-mel frames concatenated into one latent frame.

    Example
    -------
    >>> frames = lambda signals: signals.unfold(1, 2, 2)
    >>> front_end = LogMelFrontEnd(frames, n_mels=2, hop=2, stack=2)
    >>> signals, samples = torch.ones(1, 18), torch.tensor([11])
    >>> front_end.lengths(samples), front_end(signals, samples).shape
    (tensor([3]), torch.Size([1, 5, 4]))
    """

    def __init__(
        self,
        compute_features: Callable[[torch.Tensor], torch.Tensor],
        n_mels: int,
        hop: int,
        stack: int = 1,
    ):
        super().__init__()
        self.compute_features = compute_features
        self.normalize = CorpusNormalization(n_mels)
        self.hop = hop
        self.stack_frames = StackFrames(stack)

    def lengths(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the number of latent frames without padding: (B,) int64.

        ``samples`` is (B,) int64, the number of valid samples.
        """
        return self.count(samples)

    def count(self, samples: Any) -> Any:
        """Return the number of latent frames as `lengths` does, also of an integer."""
        return (samples // self.hop + 1) // self.stack_frames.stack

    def forward(self, signals: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """Compute latent frames of signals.

        Arguments
        ---------
        signals : torch.Tensor
            (B, samples) float, padded at the end.
        samples : torch.Tensor
            (B,) int64, number of valid samples.

        Returns
        -------
        torch.Tensor
            (B, T, n_mels * stack); frames beyond `lengths` are undefined.
        """
        frames = self.normalize(self.compute_features(signals))
        return self.stack_frames(frames).flatten(2)

    def gather(self, batches: Iterable[SpeechBatch]) -> None:
        """Compute the statistics for the normalization, unless done before.

        Arguments
        ---------
        batches : Iterable[SpeechBatch]
            The training set.
        """
        if self.normalize.count == 0:
            self.normalize.gather(map(self._valid_frames, batches))

    def _valid_frames(self, batch: SpeechBatch) -> torch.Tensor:
        device = self.normalize.mean.device
        frames = self.compute_features(batch.signals.to(device))
        count = batch.samples.to(device) // self.hop + 1
        return frames[torch.arange(frames.shape[1], device=device) < count[:, None]]


class WaveformFrontEnd(nn.Module):
    """Convolutional feature extractor on the waveform, as in the wav2vec 2.0 paper.

    Every signal is normalized to mean 0 and standard deviation 1 over its valid
    samples.

    Arguments
    ---------
    extractor : torch.nn.Module
        SpeechBrain's ``W2VLatentExtractor``, or a module with the same methods.
    start_from_data : bool
        Initialize the affine layer at the end of the extractor from data, so that the
        first latent frames have mean 0 and standard deviation 1 (Salimans and Kingma
        2016, https://arxiv.org/abs/1602.07868, section 3). Without it, the frames of an
        untrained extractor are so similar that they share a few codes.

    Example
    -------
    >>> from speechbrain.lobes.models.wav2vec import W2VLatentExtractor
    >>> extractor = W2VLatentExtractor([8, 8], [4, 4], [2, 2])
    >>> front_end = WaveformFrontEnd(extractor)
    >>> signals, samples = torch.randn(2, 100), torch.tensor([100, 3])
    >>> front_end.lengths(samples), front_end(signals, samples).shape
    (tensor([23,  0]), torch.Size([2, 23, 8]))
    """

    def __init__(self, extractor: Any, start_from_data: bool = False):
        super().__init__()
        self.extractor = extractor
        # Not saved: loading the extractor's state sets it to True.
        self.started = not start_from_data
        self.fewest = 1
        layers = zip(extractor.kernel_sizes, extractor.strides, strict=True)
        for kernel, stride in reversed(list(layers)):
            self.fewest = (self.fewest - 1) * stride + kernel

    def lengths(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the number of latent frames without padding: (B,) int64.

        ``samples`` is (B,) int64, the number of valid samples.
        """
        return self.count(samples).clamp(min=0)

    def count(self, samples: Any) -> Any:
        """Return the number of latent frames of a tensor or an integer.

        It is below 1 if there are too few samples for one.
        """
        layers = zip(self.extractor.kernel_sizes, self.extractor.strides, strict=True)
        for kernel, stride in layers:
            samples = (samples - kernel) // stride + 1
        return samples

    def forward(self, signals: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """Compute latent frames of signals.

        Arguments
        ---------
        signals : torch.Tensor
            (B, samples) float, padded at the end.
        samples : torch.Tensor
            (B,) int64, number of valid samples.

        Returns
        -------
        torch.Tensor
            (B, T, C), at least one frame; frames beyond `lengths` are undefined.
        """
        valid = torch.arange(signals.shape[1], device=signals.device) < samples[:, None]
        count = samples.clamp(min=1)[:, None]
        mean = (signals * valid).sum(1, keepdim=True) / count
        centred = (signals - mean) * valid
        variance = centred.square().sum(1, keepdim=True) / count
        normalized = centred / (variance + 1e-5).sqrt()
        # A convolution fails if its input is shorter than its kernel.
        normalized = F.pad(normalized, (0, max(0, self.fewest - signals.shape[1])))
        return self.extractor(normalized, normalize_signal=False)

    @torch.no_grad()
    def gather(self, batches: Iterable[SpeechBatch]) -> None:
        """Initialize the affine layer from data, if requested and not done before.

        Arguments
        ---------
        batches : Iterable[SpeechBatch]
            The training set, of which the first `START_BATCHES` batches are used.
        """
        if self.started:
            return
        norm = self.extractor.norm
        normalize = CorpusNormalization(len(norm.weight)).to(norm.weight.device)
        normalize.gather(map(self._valid_frames, islice(batches, START_BATCHES)))
        norm.weight.div_(normalize.std)
        norm.bias.sub_(normalize.mean).div_(normalize.std)
        self.started = True

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.started |= any(key.startswith(prefix) for key in state_dict)

    def _valid_frames(self, batch: SpeechBatch) -> torch.Tensor:
        device = self.extractor.norm.weight.device
        samples = batch.samples.to(device)
        frames = self(batch.signals.to(device), samples)
        steps = torch.arange(frames.shape[1], device=device)
        return frames[steps < self.lengths(samples)[:, None]]
