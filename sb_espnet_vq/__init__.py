"""Vector quantizers for SpeechBrain and ESPnet with one interface.

Example
-------
>>> import torch, sb_espnet_vq
>>> q = sb_espnet_vq.build("rvq", dim=16, codebook_size=32, n_codebooks=4)
>>> out = q(torch.randn(2, 50, 16))
>>> out.quantized.shape, out.codes.shape
(torch.Size([2, 50, 16]), torch.Size([2, 50, 4]))
>>> q.decode(out.codes).shape
torch.Size([2, 50, 16])
"""

from importlib import import_module
from typing import TYPE_CHECKING

from sb_espnet_vq import combinators, quantizers
from sb_espnet_vq.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from sb_espnet_vq.combinators import Grouped, Residual, Split, WarmStart
    from sb_espnet_vq.quantizers import (
        BSQ,
        FSQ,
        LFQ,
        RVQ,
        VQ,
        ClassPartitionedVQ,
        EntropyVQ,
        GumbelVQ,
        Quantizer,
        QuantizerOutput,
        RandomProjection,
        SimVQ,
    )
    from sb_espnet_vq.registry import build, list_quantizers

__all__ = [
    "BSQ",
    "ClassPartitionedVQ",
    "ConfigError",
    "EntropyVQ",
    "FSQ",
    "Grouped",
    "GumbelVQ",
    "LFQ",
    "Quantizer",
    "QuantizerOutput",
    "RVQ",
    "RandomProjection",
    "Residual",
    "ShapeError",
    "SimVQ",
    "Split",
    "VQ",
    "WarmStart",
    "build",
    "list_quantizers",
]
__version__ = "0.1.0"

_REGISTRY = {"build", "list_quantizers"}


def __getattr__(name: str):
    # Deferred, since importing torch takes seconds and `sbvq --help` does not need it.
    if name in quantizers.__all__:
        value = getattr(quantizers, name)
    elif name in combinators.__all__:
        value = getattr(combinators, name)
    elif name in _REGISTRY:
        value = getattr(import_module(f"{__name__}.registry"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
