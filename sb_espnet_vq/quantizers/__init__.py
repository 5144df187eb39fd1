"""All quantizers, one type per file; `sb_espnet_vq.build` builds one by name.

Each class can be imported from here and from `sb_espnet_vq`.

Example
-------
>>> from sb_espnet_vq.quantizers import RVQ
>>> RVQ(dim=16, codebook_size=32, n_codebooks=4).n_codebooks
4
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sb_espnet_vq.quantizers.base import Quantizer, QuantizerOutput
    from sb_espnet_vq.quantizers.bsq import BSQ
    from sb_espnet_vq.quantizers.class_partitioned import ClassPartitionedVQ
    from sb_espnet_vq.quantizers.entropy_vq import EntropyVQ
    from sb_espnet_vq.quantizers.fsq import FSQ
    from sb_espnet_vq.quantizers.gumbel import GumbelVQ
    from sb_espnet_vq.quantizers.lfq import LFQ
    from sb_espnet_vq.quantizers.random_projection import RandomProjection
    from sb_espnet_vq.quantizers.rvq import RVQ
    from sb_espnet_vq.quantizers.simvq import SimVQ
    from sb_espnet_vq.quantizers.vq import VQ

__all__ = [
    "BSQ",
    "ClassPartitionedVQ",
    "EntropyVQ",
    "FSQ",
    "GumbelVQ",
    "LFQ",
    "Quantizer",
    "QuantizerOutput",
    "RVQ",
    "RandomProjection",
    "SimVQ",
    "VQ",
]

_MODULES = {
    "BSQ": "bsq",
    "ClassPartitionedVQ": "class_partitioned",
    "EntropyVQ": "entropy_vq",
    "FSQ": "fsq",
    "GumbelVQ": "gumbel",
    "LFQ": "lfq",
    "Quantizer": "base",
    "QuantizerOutput": "base",
    "RVQ": "rvq",
    "RandomProjection": "random_projection",
    "SimVQ": "simvq",
    "VQ": "vq",
}


def __getattr__(name: str):
    # Importing torch takes seconds, and `sb_espnet_vq` imports this module.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
