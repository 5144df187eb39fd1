"""Number of codebooks that fit into a bandwidth in kbit/s."""

import math
import warnings
from collections.abc import Sequence

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


def total_bandwidth(rates: Sequence[float], n_codebooks: int | None = None) -> float:
    """Return the total bitrate of the first codebooks.

    Arguments
    ---------
    rates : sequence of float
        kbit/s of each codebook.
    n_codebooks : int, optional
        Number of codebooks in use. Default: all.

    Returns
    -------
    float
        kbit/s.

    Example
    -------
    >>> total_bandwidth([0.5, 0.4, 0.4], 2)
    0.9
    """
    return math.fsum(rates[:n_codebooks])


def codebooks_for_bandwidth(bandwidth: float | None, rates: Sequence[float]) -> int:
    """Return the number of codebooks that fit, at least one and at most all.

    Arguments
    ---------
    bandwidth : float, optional
        kbit/s; None, 0 or less selects all.
    rates : sequence of float
        kbit/s of each codebook, in order; 0 for a codebook with one code.

    Returns
    -------
    int

    Raises
    ------
    ConfigError
        If the bandwidth is not a number.

    Example
    -------
    >>> rates = [0.5] * 8
    >>> codebooks_for_bandwidth(2.0, rates), codebooks_for_bandwidth(None, rates)
    (4, 8)
    """
    if bandwidth is None:
        return len(rates)
    try:
        wanted = float(bandwidth)
    except (TypeError, ValueError):
        wanted = math.nan
    if math.isnan(wanted) or isinstance(bandwidth, str):
        raise ConfigError(f"bandwidth must be a number in kbit/s, got {bandwidth!r}")
    if wanted <= 0 or sum(rates) == 0 or math.isinf(wanted):
        return len(rates)
    # A bandwidth computed as a sum of rates may round to just below it.
    limit = wanted * (1 + 1e-9)
    totals = [total_bandwidth(rates, k) for k in range(1, len(rates) + 1)]
    used = max(1, sum(total <= limit for total in totals))
    if not totals[0] <= limit <= totals[-1] + rates[-1]:
        each = " or ".join(f"{rate:g}" for rate in sorted(set(rates)))
        warnings.warn(
            f"a bandwidth of {wanted:g} kbit/s cannot be met: {len(rates)} codebooks "
            f"of {each} kbit/s each; using {totals[used - 1]:g} kbit/s",
            stacklevel=2,
        )
    return used
