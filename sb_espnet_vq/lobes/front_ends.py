"""From signals to the latent frames that a contrastive model masks and quantizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from sb_espnet_vq.lobes.batches import SpeechBatch


class CorpusNormalization(nn.Module):
    """Gives every feature mean 0 and deviation 1 over a corpus.

    Arguments
    ---------
    width : int
        Number of features.

    Buffers
    -------
    mean, std : (width,); count : () int64, frames they were gathered from.

    Example
    -------
    >>> normalize = CorpusNormalization(1)
    >>> normalize.gather([torch.tensor([[1.0]]), torch.tensor([[3.0]])])
    >>> normalize(torch.tensor([[1.0], [3.0]])).flatten()
    tensor([-1.,  1.])
    """

    mean: torch.Tensor
    std: torch.Tensor
    count: torch.Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def gather(self, parts: Iterable[torch.Tensor]) -> None:
        """Take the statistics of a corpus.

        Arguments
        ---------
        parts : Iterable[torch.Tensor]
            (N, width) real frames each.
        """
        count, total, squares = 0, 0.0, 0.0
        for part in parts:
            part = part.double()
            count += len(part)
            total = total + part.sum(0)
            squares = squares + part.square().sum(0)
        if count:
            mean = torch.as_tensor(total) / count
            spread = torch.as_tensor(squares) / count - mean.square()
            self.mean.copy_(mean)
            self.std.copy_(spread.clamp(min=1e-10).sqrt())
        self.count.fill_(count)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (..., width) features."""
        return (x - self.mean) / self.std


class LogMelFrontEnd(nn.Module):
    """Log-mel frames, normalised over the corpus and stacked.

    Arguments
    ---------
    compute_features : callable
        Turns (B, samples) signals into (B, T, n_mels), one frame every ``hop``.
    n_mels : int
        Features of a frame.
    hop : int
        In samples.
    stack : int
        Frames side by side in one latent frame.

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
        self.stack = stack

    def lengths(self, samples: torch.Tensor) -> torch.Tensor:
        """Latent frames that are wholly real: (B,) of (B,) samples, both int64."""
        return (samples // self.hop + 1) // self.stack

    def forward(self, signals: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """Turn signals into latent frames.

        Arguments
        ---------
        signals : torch.Tensor
            (B, samples) float, padded at the end.
        samples : torch.Tensor
            (B,) int64, how many of them are real.

        Returns
        -------
        torch.Tensor
            (B, T, n_mels * stack).
        """
        frames = self.normalize(self.compute_features(signals))
        real = self._real(samples, frames.shape[1])
        frames = F.pad(frames * real[..., None], (0, 0, 0, -frames.shape[1] % self.stack))
        return frames.unflatten(1, (-1, self.stack)).flatten(2)

    def gather(self, batches: Iterable[SpeechBatch]) -> None:
        """Take the statistics for the normalisation from a corpus, if not done yet.

        Arguments
        ---------
        batches : Iterable[SpeechBatch]
            The training speech.
        """
        if self.normalize.count == 0:
            self.normalize.gather(map(self._real_frames, batches))

    def _real_frames(self, batch: SpeechBatch) -> torch.Tensor:
        device = self.normalize.mean.device
        frames = self.compute_features(batch.signals.to(device))
        return frames[self._real(batch.samples.to(device), frames.shape[1])]

    def _real(self, samples: torch.Tensor, total: int) -> torch.Tensor:
        frames = samples // self.hop + 1
        return torch.arange(total, device=samples.device) < frames[:, None]


class WaveformFrontEnd(nn.Module):
    """A convolutional extractor on the waveform, as in the wav2vec 2.0 paper.

    Every signal is brought to mean 0 and deviation 1 over its own real samples.

    Arguments
    ---------
    extractor : torch.nn.Module
        SpeechBrain's ``W2VLatentExtractor``, or one with its methods.

    Example
    -------
    >>> from speechbrain.lobes.models.wav2vec import W2VLatentExtractor
    >>> extractor = W2VLatentExtractor([8, 8], [4, 4], [2, 2])
    >>> front_end = WaveformFrontEnd(extractor)
    >>> signals, samples = torch.randn(2, 100), torch.tensor([100, 3])
    >>> front_end.lengths(samples), front_end(signals, samples).shape
    (tensor([23,  0]), torch.Size([2, 23, 8]))
    """

    def __init__(self, extractor: Any):
        super().__init__()
        self.extractor = extractor
        self.fewest = 1
        layers = zip(extractor.kernel_sizes, extractor.strides, strict=True)
        for kernel, stride in reversed(list(layers)):
            self.fewest = (self.fewest - 1) * stride + kernel

    def lengths(self, samples: torch.Tensor) -> torch.Tensor:
        """Latent frames of only real samples: (B,) of (B,) samples, both int64."""
        return self.extractor.get_output_lengths(samples).clamp(min=0)

    def forward(self, signals: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """Turn signals into latent frames.

        Arguments
        ---------
        signals : torch.Tensor
            (B, samples) float, padded at the end.
        samples : torch.Tensor
            (B,) int64, how many of them are real.

        Returns
        -------
        torch.Tensor
            (B, T, C), at least one frame.
        """
        real = torch.arange(signals.shape[1], device=signals.device) < samples[:, None]
        count = samples.clamp(min=1)[:, None]
        mean = (signals * real).sum(1, keepdim=True) / count
        centred = (signals - mean) * real
        variance = centred.square().sum(1, keepdim=True) / count
        normal = centred / (variance + 1e-5).sqrt()
        # A convolution over less than its kernel is an error.
        normal = F.pad(normal, (0, max(0, self.fewest - signals.shape[1])))
        return self.extractor(normal, normalize_signal=False)

    def gather(self, batches: Iterable[SpeechBatch]) -> None:
        """Nothing to do: no statistics of a corpus are needed."""
