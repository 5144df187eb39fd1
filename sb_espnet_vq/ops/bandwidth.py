"""Number of codebooks that fit into a bandwidth in kbit/s."""

import math
import warnings

from sb_espnet_vq.errors import ConfigError


def bandwidth_per_codebook(codebook_size: int, frame_rate: float) -> float:
    """Return the bitrate of one codebook.

    Arguments
    ---------
    codebook_size : int
        Number of codes.
    frame_rate : float
        Frames per second (Hz), not audio samples.

    Returns
    -------
    float
        kbit/s.

    Raises
    ------
    ConfigError
        If the frame rate is not above 0.

    Example
    -------
    >>> bandwidth_per_codebook(1024, 50)
    0.5
    """
    if not frame_rate > 0:
        raise ConfigError(f"the frame rate must be above 0 Hz, got {frame_rate!r}")
    return math.log2(codebook_size) * frame_rate / 1000


def codebooks_for_bandwidth(
    bandwidth: float | None, per_codebook: float, n_codebooks: int
) -> int:
    """Return as many codebooks as fit, at least one and at most all.

    Arguments
    ---------
    bandwidth : float, optional
        kbit/s; None, 0 or less asks for all.
    per_codebook : float
        kbit/s of one codebook; 0 where it has a single code.
    n_codebooks : int
        How many there are.

    Returns
    -------
    int

    Raises
    ------
    ConfigError
        If the bandwidth is not a number.

    Example
    -------
    >>> codebooks_for_bandwidth(2.0, 0.5, 8), codebooks_for_bandwidth(None, 0.5, 8)
    (4, 8)
    """
    if bandwidth is None:
        return n_codebooks
    try:
        wanted = float(bandwidth)
    except (TypeError, ValueError):
        wanted = math.nan
    if math.isnan(wanted) or isinstance(bandwidth, str):
        raise ConfigError(f"bandwidth must be a number in kbit/s, got {bandwidth!r}")
    if wanted <= 0 or per_codebook == 0 or math.isinf(wanted):
        return n_codebooks
    # A bandwidth computed as k * per_codebook may round to just below k of them.
    fitting = min(wanted / per_codebook * (1 + 1e-9), n_codebooks + 1)
    used = min(max(1, math.floor(fitting)), n_codebooks)
    if not per_codebook <= wanted * (1 + 1e-9) <= (n_codebooks + 1) * per_codebook:
        warnings.warn(
            f"a bandwidth of {wanted:g} kbit/s cannot be met: {n_codebooks} codebooks "
            f"of {per_codebook:g} kbit/s each; using {used * per_codebook:g} kbit/s",
            stacklevel=2,
        )
    return used
