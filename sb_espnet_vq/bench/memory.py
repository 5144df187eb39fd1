"""Peak memory of one call above what was in use before it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_STATUS = Path("/proc/self/status")


def extra_peak_bytes(device: str, step: Callable[[], Any]) -> int:
    """Call once and return the bytes by which memory rose at its highest.

    On a CPU that is resident memory of this process: call it in a process of its
    own. What the call returns counts too.

    Arguments
    ---------
    device : str
        "cpu" or "cuda".
    step : callable
        The call.

    Returns
    -------
    int
        Bytes, at least 0.
    """
    gc.collect()
    if device == "cuda":
        return _cuda_peak(step)
    _give_back_freed_memory()
    _reset_peak()
    before = _resident()
    result = step()
    peak = _peak()
    del result
    return max(0, peak - before)


def _cuda_peak(step: Callable[[], Any]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = step()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    del result
    return peak - before


def _give_back_freed_memory() -> None:
    # glibc keeps what was freed; a call that reuses it would seem to need nothing.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> None:
    # Where the kernel refuses, the peak since the process began stands, which is
    # that of the call if nothing before it was larger.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident() -> int:
    return _status_bytes("VmRSS") or _peak()


def _peak() -> int:
    return _status_bytes("VmHWM") or _largest_resident()


def _status_bytes(field: str) -> int | None:
    if not _STATUS.is_file():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def _largest_resident() -> int:
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts KiB, macOS bytes.
    return largest if sys.platform == "darwin" else largest * 1024
