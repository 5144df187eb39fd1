"""Errors of the fundamental frequency and of voicing."""

from __future__ import annotations

import numpy as np

from sb_espnet_vq.evaluation.metrics.audio import Audio


def f0_error(estimate: Audio, target: Audio) -> float | None:
    """Return the root mean square error of the fundamental frequency in cents.

    Over the frames (of 5 ms) that are voiced in both; 100 cents are a semitone. DIO and
    StoneMask of WORLD (Morise et al. 2016, https://doi.org/10.1587/transinf.2015EDP7457)
    estimate the frequency, between 71 and 800 Hz. Lower is better.

    Arguments
    ---------
    estimate, target : Audio
        The reconstruction and the recording, of one length.

    Returns
    -------
    float or None
        None if no frame is voiced in both.
    """
    found, wanted = estimate.of(pitch), target.of(pitch)
    both = (found > 0) & (wanted > 0)
    if not both.any():
        return None
    cents = 1200 * np.log2(found[both] / wanted[both])
    return float(np.sqrt(np.mean(cents**2)))


def voicing_error(estimate: Audio, target: Audio) -> float | None:
    """Return the share of frames that are voiced in one of the two only.

    Nakatani et al. 2008, https://doi.org/10.1016/j.specom.2007.09.003. Lower is better.

    Arguments
    ---------
    estimate, target : Audio
        The reconstruction and the recording, of one length.

    Returns
    -------
    float or None
        None if no frame of the recording is voiced.
    """
    found, wanted = estimate.of(pitch) > 0, target.of(pitch) > 0
    return float(np.mean(found != wanted)) if wanted.any() else None


def pitch(audio: Audio) -> np.ndarray:
    """Return the fundamental frequency of each frame of 5 ms in Hz, 0 if unvoiced.

    Arguments
    ---------
    audio : Audio

    Returns
    -------
    numpy.ndarray
        (T,) float64.
    """
    import pyworld

    samples = audio.signal.double().numpy()
    coarse, times = pyworld.dio(samples, audio.sample_rate)
    return pyworld.stonemask(samples, coarse, times, audio.sample_rate)
