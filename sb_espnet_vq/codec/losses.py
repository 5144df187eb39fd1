"""How far audio is from what it should be, by spectrograms of several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError, ShapeError


class SpectralDistance(NamedTuple):
    """Distances, each a mean over resolutions.

    Arguments
    ---------
    stft : torch.Tensor
        Scalar, mean absolute difference of magnitudes and of their logarithms.
    mel : torch.Tensor
        Scalar, mean absolute difference of log-mel magnitudes (nat).
    """

    stft: Tensor
    mel: Tensor


class SpectralLoss(nn.Module):
    """Spectrograms and mel spectrograms of several window lengths, compared.

    Spectra: Yamamoto et al. 2020, https://arxiv.org/abs/1910.11480, section 3.2, with
    a mean in the place of spectral convergence. Mel: Defossez et al. 2022,
    https://arxiv.org/abs/2210.13438, section 3.4. The hop is a quarter of the window.

    Arguments
    ---------
    sample_rate : int
        In Hz.
    windows : sequence of int
        Window lengths in samples.
    n_mels : sequence of int
        Mel bands for each window.
    floor : float
        Magnitudes count as at least this much before the logarithm.

    Raises
    ------
    ConfigError
        If there are not as many numbers of mel bands as windows.

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
                f"n_mels must give a number for each of the {len(windows)} windows, "
                f"not {list(n_mels)}"
            )
        self.windows, self.floor = tuple(windows), floor
        for window, mels in zip(windows, n_mels, strict=True):
            bank = melscale_fbanks(
                window // 2 + 1, 0.0, sample_rate / 2, mels, sample_rate, norm="slaney"
            )
            # Narrow bands between two bins of a short window would be empty.
            bank = bank[:, bank.sum(0) > 0] * sample_rate / window
            self.register_buffer(f"bank_{window}", bank, persistent=False)
            shape = torch.hann_window(window)
            self.register_buffer(f"window_{window}", shape, persistent=False)

    def forward(self, estimate: Tensor, target: Tensor) -> SpectralDistance:
        """Compare two batches of audio.

        Arguments
        ---------
        estimate, target : torch.Tensor
            (B, L) float, with the same values where there is padding.

        Returns
        -------
        SpectralDistance
            float32; the gradient goes to ``estimate``.

        Raises
        ------
        ShapeError
            If the shapes differ.
        """
        if estimate.shape != target.shape:
            raise ShapeError(
                f"SpectralLoss: estimate {tuple(estimate.shape)} and target "
                f"{tuple(target.shape)} must have one shape"
            )
        stft, mel = [], []
        for window in self.windows:
            bank = self.get_buffer(f"bank_{window}")
            ours, theirs = (self._magnitude(x, window) for x in (estimate, target))
            stft += [(ours - theirs).abs().mean(), self._log_distance(ours, theirs)]
            mel.append(self._log_distance(ours @ bank, theirs @ bank))
        return SpectralDistance(
            torch.stack(stft).sum() / len(mel), torch.stack(mel).mean()
        )

    def _log_distance(self, ours: Tensor, theirs: Tensor) -> Tensor:
        ours, theirs = (x.clamp(min=self.floor).log() for x in (ours, theirs))
        return (ours - theirs).abs().mean()

    def _magnitude(self, signals: Tensor, window: int) -> Tensor:
        """Return (B, T, bins); a sine of amplitude 1 gives 1 at its bin."""
        shape = self.get_buffer(f"window_{window}")
        # Transforms of short floats are not to be had, nor wanted, under autocast.
        with torch.autocast(signals.device.type, enabled=False):
            spectrum = torch.stft(
                signals.float(),
                window,
                window // 4,
                window=shape * (4 / window),
                pad_mode="constant",
                return_complex=True,
            )
            # The root's gradient at 0 is infinite.
            power = torch.view_as_real(spectrum).square().sum(-1)
            return (power + 1e-12).sqrt().transpose(1, 2)
