"""Multi-resolution spectral losses of decoded audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError, ShapeError


class SpectralDistance(NamedTuple):
    """Spectral distances, each averaged over resolutions.

    Arguments
    ---------
    stft : torch.Tensor
        Scalar, mean absolute difference of magnitudes plus that of their logarithms.
    mel : torch.Tensor
        Scalar, mean absolute difference of log-mel magnitudes (nat).
    """

    stft: Tensor
    mel: Tensor


class SpectralLoss(nn.Module):
    """Distance of spectrograms and mel spectrograms of several window lengths.

    Spectrograms: Yamamoto et al. 2020, https://arxiv.org/abs/1910.11480, section 3.2,
    with the mean absolute difference instead of spectral convergence. Mel: Defossez et
    al. 2022, https://arxiv.org/abs/2210.13438, section 3.4. The hop size is a quarter
    of the window.

    Arguments
    ---------
    sample_rate : int
        In Hz.
    windows : sequence of int
        Window lengths in samples.
    n_mels : sequence of int
        Number of mel bands for each window.
    floor : float
        Lower bound of magnitudes in the logarithm.

    Raises
    ------
    ConfigError
        If ``n_mels`` and ``windows`` differ in length or are empty.

    Example
    -------
    >>> loss = SpectralLoss(8000, windows=(64, 256), n_mels=(8, 32))
    >>> x = torch.randn(2, 4000)
    >>> loss(x, x)
    SpectralDistance(stft=tensor(0.), mel=tensor(0.))
    """

    def __init__(
        self,
        sample_rate: int,
        windows: Sequence[int] = (64, 128, 256, 512, 1024),
        n_mels: Sequence[int] = (8, 16, 32, 48, 64),
        floor: float = 1e-4,
    ):
        from torchaudio.functional import melscale_fbanks

        super().__init__()
        if len(windows) != len(n_mels) or not windows:
            raise ConfigError(
                f"n_mels must have one value for each of the {len(windows)} windows, "
                f"got {list(n_mels)}"
            )
        self.windows, self.floor = tuple(windows), floor
        for window, mels in zip(windows, n_mels, strict=True):
            bank = melscale_fbanks(
                window // 2 + 1, 0.0, sample_rate / 2, mels, sample_rate, norm="slaney"
            )
            # Bands without a bin, as narrow ones of short windows, are removed.
            bank = bank[:, bank.sum(0) > 0] * sample_rate / window
            self.register_buffer(f"bank_{window}", bank, persistent=False)
            shape = torch.hann_window(window)
            self.register_buffer(f"window_{window}", shape, persistent=False)

    def forward(self, estimate: Tensor, target: Tensor) -> SpectralDistance:
        """Compare two batches of audio.

        Arguments
        ---------
        estimate, target : torch.Tensor
            (B, L) float, with equal values in padding.

        Returns
        -------
        SpectralDistance
            float32, with gradient to ``estimate``.

        Raises
        ------
        ShapeError
            If the shapes differ.
        """
        if estimate.shape != target.shape:
            raise ShapeError(
                f"SpectralLoss: estimate {tuple(estimate.shape)} and target "
                f"{tuple(target.shape)} must have the same shape"
            )
        stft, mel = [], []
        for window in self.windows:
            bank = self.get_buffer(f"bank_{window}")
            got, expected = (self._magnitude(x, window) for x in (estimate, target))
            stft += [(got - expected).abs().mean(), self._log_distance(got, expected)]
            mel.append(self._log_distance(got @ bank, expected @ bank))
        return SpectralDistance(
            torch.stack(stft).sum() / len(mel), torch.stack(mel).mean()
        )

    def _log_distance(self, got: Tensor, expected: Tensor) -> Tensor:
        got, expected = (x.clamp(min=self.floor).log() for x in (got, expected))
        return (got - expected).abs().mean()

    def _magnitude(self, signals: Tensor, window: int) -> Tensor:
        """Return (B, T, bins), scaled so that a sine of amplitude 1 has magnitude 1."""
        shape = self.get_buffer(f"window_{window}")
        # torch.stft does not support bfloat16, and float16 only in part.
        with torch.autocast(signals.device.type, enabled=False):
            spectrum = torch.stft(
                signals.float(),
                window,
                window // 4,
                window=shape * (4 / window),
                pad_mode="constant",
                return_complex=True,
            )
            # The constant avoids the infinite gradient of the square root at 0.
            power = torch.view_as_real(spectrum).square().sum(-1)
            return (power + 1e-12).sqrt().transpose(1, 2)
