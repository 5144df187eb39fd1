"""Description of the machine and the package versions of a benchmark."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sb_espnet_vq import __version__

_PACKAGES = (
    "torch",
    "speechbrain",
    "espnet",
    "vector-quantize-pytorch",
    "faiss-cpu",
    "numpy",
)


def describe_machine(device: str) -> dict[str, Any]:
    """Return processor, cores, memory, system, GPU if used, and load average.

    Arguments
    ---------
    device : str
        "cpu" or "cuda".

    Returns
    -------
    dict
    """
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def list_versions() -> dict[str, str | None]:
    """Return the version of each package in the benchmarks, None if not installed."""
    versions: dict[str, str | None] = {
        "python": platform.python_version(),
        "sb_espnet_vq": __version__,
    }
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return None
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return round(size / 2**30, 1)
