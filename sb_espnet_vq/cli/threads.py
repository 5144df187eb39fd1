"""Wait policy of the OpenMP threads of a recipe.

OpenMP threads spin for milliseconds before they sleep, which is fastest on an idle
machine. If other programs use the same processors, spinning threads take CPU time
from the threads that they wait for, and a training step can take 60 times as long. The
number of threads remains torch's default, so that results do not depend on the load.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

_STAT = Path("/proc/stat")
_SECONDS = 0.4
_BUSY_BELOW = 0.5
# If the user sets one of these, it takes precedence.
CHOICES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def choose(environment: Mapping[str, str], idle: float) -> tuple[dict[str, str], str]:
    """Choose the wait policy by the user's settings and the CPU load.

    Arguments
    ---------
    environment : Mapping[str, str]
        The user's environment variables.
    idle : float
        Idle share of the processors' time, 0 to 1.

    Returns
    -------
    dict[str, str], str
        Variables to set before torch is loaded, and a message for the user.

    Example
    -------
    >>> choose({}, idle=0.1)[0]
    {'OMP_WAIT_POLICY': 'PASSIVE'}
    >>> choose({"OMP_NUM_THREADS": "1"}, idle=0.1)
    ({}, 'threads: as set by OMP_NUM_THREADS=1')
    """
    given = [f"{name}={environment[name]}" for name in CHOICES if name in environment]
    if given:
        return {}, f"threads: as set by {', '.join(given)}"
    used = f"processors {1 - idle:.0%} in use"
    if idle < _BUSY_BELOW:
        return (
            {"OMP_WAIT_POLICY": "PASSIVE"},
            f"threads: passive waiting, since other programs run ({used})",
        )
    return {}, f"threads: active waiting ({used}); OMP_WAIT_POLICY=PASSIVE changes it"


def idle_share() -> float:
    """Measure the idle share of the processors' time.

    Returns
    -------
    float
        0 to 1; computed from the load average if there is no /proc/stat.
    """
    if not _STAT.is_file():
        return max(0.0, 1 - os.getloadavg()[0] / (os.cpu_count() or 1))
    before = _times()
    time.sleep(_SECONDS)
    spent = [after - start for after, start in zip(_times(), before, strict=True)]
    return (spent[3] + spent[4]) / max(1, sum(spent))


def _times() -> list[int]:
    """Return user, nice, system, idle, iowait, irq, softirq and steal."""
    with _STAT.open(encoding="ascii") as file:
        return [int(word) for word in file.readline().split()[1:9]]
