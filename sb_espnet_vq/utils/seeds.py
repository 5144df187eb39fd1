"""Seeds of random generators, derived from strings."""

import hashlib


def seed_of(key: str) -> int:
    """Return a seed for a random generator that is the same in every process.

    Python's `hash` of a string differs between processes.

    Arguments
    ---------
    key : str
        Any string.

    Returns
    -------
    int
        In [0, 2**63).

    Example
    -------
    >>> seed_of("1/train/0") == seed_of("1/train/0") != seed_of("1/train/1")
    True
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
