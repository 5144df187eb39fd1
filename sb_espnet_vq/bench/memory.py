"""Peak memory of one call relative to the memory in use before it."""

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
    """Call a function once and return the increase of peak memory in bytes.

    On a CPU this is the resident memory of the process, so use a separate process. The
    result of the call is included.

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
    # glibc keeps freed memory; a call that reuses it would appear to need none.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> None:
    # If the kernel refuses, the peak is that since the start of the process, which is
    # the peak of the call unless more was in use earlier.
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
