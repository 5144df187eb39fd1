"""The values of quantizers without a codebook: an even grid around 0."""

from typing import NamedTuple


class Grid(NamedTuple):
    """Evenly spaced values of each channel, from ``-extent`` to ``extent``.

    A residual chain needs it: what one level leaves is smaller by a factor that the
    grid determines, and the next level cannot adapt as a codebook does.

    Arguments
    ---------
    levels : tuple of int
        Number of values of each channel, at least 2.
    extent : float
        The largest value.
    """

    levels: tuple[int, ...]
    extent: float
