"""From signals to the latent frames that a contrastive model masks and quantizes."""

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

# Enough speech for the mean and deviation of each channel.
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
        If ``stack`` is no integer of at least 1.

    Example
    -------
    >>> StackFrames(4)(torch.ones(2, 9, 80)).shape
    torch.Size([2, 3, 4, 80])
    """

    def __init__(self, stack: int):
        super().__init__()
        self.stack = positive_int("stack", stack)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Stack (B, T, D) frames: (B, ceil(T / stack), stack, D)."""
        whole = F.pad(frames, (0, 0, 0, -frames.shape[1] % self.stack))
        return whole.unflatten(1, (-1, self.stack))


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
        self.stack_frames = StackFrames(stack)

    def lengths(self, samples: torch.Tensor) -> torch.Tensor:
        """Latent frames that are wholly real: (B,) of (B,) samples, both int64."""
        return (samples // self.hop + 1) // self.stack_frames.stack

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
            (B, T, n_mels * stack); what is beyond `lengths` means nothing.
        """
        frames = self.normalize(self.compute_features(signals))
        return self.stack_frames(frames).flatten(2)

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
        real = batch.samples.to(device) // self.hop + 1
        return frames[torch.arange(frames.shape[1], device=device) < real[:, None]]


class WaveformFrontEnd(nn.Module):
    """A convolutional extractor on the waveform, as in the wav2vec 2.0 paper.

    Every signal is brought to mean 0 and deviation 1 over its own real samples.

    Arguments
    ---------
    extractor : torch.nn.Module
        SpeechBrain's ``W2VLatentExtractor``, or one with its methods.
    start_from_data : bool
        Set the affine layer at the extractor's end so that training begins with
        latent frames of mean 0 and deviation 1 (Salimans and Kingma 2016,
        https://arxiv.org/abs/1602.07868, section 3). Without it, all frames of an
        extractor that has learnt nothing are much alike, and get the same few codes.

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
        # Not saved: the state is the extractor's, and loading it sets this to True.
        self.started = not start_from_data
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
            (B, T, C), at least one frame; what is beyond `lengths` means nothing.
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

    @torch.no_grad()
    def gather(self, batches: Iterable[SpeechBatch]) -> None:
        """Start from data, where that is asked for and not done yet.

        Arguments
        ---------
        batches : Iterable[SpeechBatch]
            The training speech, of which the first `START_BATCHES` are used.
        """
        if self.started:
            return
        norm = self.extractor.norm
        normalize = CorpusNormalization(len(norm.weight)).to(norm.weight.device)
        normalize.gather(map(self._real_frames, islice(batches, START_BATCHES)))
        norm.weight.div_(normalize.std)
        norm.bias.sub_(normalize.mean).div_(normalize.std)
        self.started = True

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.started |= any(key.startswith(prefix) for key in state_dict)

    def _real_frames(self, batch: SpeechBatch) -> torch.Tensor:
        device = self.extractor.norm.weight.device
        samples = batch.samples.to(device)
        frames = self(batch.signals.to(device), samples)
        steps = torch.arange(frames.shape[1], device=device)
        return frames[steps < self.lengths(samples)[:, None]]
