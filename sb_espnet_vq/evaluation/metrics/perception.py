"""Models of what listeners would say: PESQ, STOI and DNSMOS."""

from __future__ import annotations

import warnings

from sb_espnet_vq.evaluation.metrics.audio import Audio

# Rate in Hz of the network of DNSMOS.
_DNSMOS_RATE = 16000


def stoi(estimate: Audio, target: Audio) -> float | None:
    """Return the short-time objective intelligibility, at most 1.

    Taal et al. 2011, https://doi.org/10.1109/TASL.2011.2114881. Higher is better.

    Arguments
    ---------
    estimate, target : Audio
        The reconstruction and the recording, of one length.

    Returns
    -------
    float or None
        None if less than 0.4 s of the recording is not silent.
    """
    from pystoi import stoi as measure

    # pystoi fails if there is not even one of its frames.
    if target.is_silent() or len(target.signal) < 0.05 * target.sample_rate:
        return None
    with warnings.catch_warnings():
        # If too little is left after the removal of silence, pystoi warns and returns
        # 1e-5.
        warnings.filterwarnings("error", "Not enough STFT frames")
        try:
            found, wanted = estimate.signal.numpy(), target.signal.numpy()
            return float(measure(wanted, found, target.sample_rate))
        except RuntimeWarning:
            return None


def pesq(estimate: Audio, target: Audio) -> float | None:
    """Return the perceptual evaluation of speech quality (MOS-LQO), 1 to 4.6.

    ITU-T P.862 and P.862.2. Wide-band, at 16 kHz; of audio below 16 kHz narrow-band, at
    8 kHz, whose values are not comparable with wide-band ones. Higher is better.

    Arguments
    ---------
    estimate, target : Audio
        The reconstruction and the recording, of one length.

    Returns
    -------
    float or None
        None if PESQ detects no speech in the recording, it is shorter than 0.25 s, or
        the reconstruction is silent.
    """
    from pesq import PesqError
    from pesq import pesq as measure

    if target.is_silent() or estimate.is_silent():
        return None
    wide = target.sample_rate >= 16000
    rate, mode = (16000, "wb") if wide else (8000, "nb")
    try:
        value = float(
            measure(rate, target.at(rate).numpy(), estimate.at(rate).numpy(), mode)
        )
    except PesqError:
        return None
    return value if value == value else None


def dnsmos(estimate: Audio, target: Audio) -> float | None:
    """Return the overall quality that DNSMOS predicts, 1 to 5, without the recording.

    Reddy et al. 2022 (DNSMOS P.835), https://arxiv.org/abs/2110.01763. Higher is
    better; compare it with that of the recordings.

    Arguments
    ---------
    estimate : Audio
        The reconstruction. It is resampled to 16 kHz, and repeated up to 9 s.
    target : Audio
        The recording; not used.

    Returns
    -------
    float or None
        None if the reconstruction is silent.
    """
    from speechmos import dnsmos as model

    if estimate.is_silent():
        return None
    samples = estimate.at(_DNSMOS_RATE)
    samples = samples / max(1.0, float(samples.abs().max()))
    return float(model.run(samples.numpy(), _DNSMOS_RATE)["ovrl_mos"])
