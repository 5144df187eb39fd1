"""Vector quantizers for SpeechBrain and ESPnet behind one contract.

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

from sb_espnet_vq.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from sb_espnet_vq.quantizers.base import Quantizer, QuantizerOutput
    from sb_espnet_vq.registry import build, list_quantizers

__all__ = [
    "ConfigError",
    "Quantizer",
    "QuantizerOutput",
    "ShapeError",
    "build",
    "list_quantizers",
]
__version__ = "0.1.0"

_HOMES = {
    "Quantizer": "quantizers.base",
    "QuantizerOutput": "quantizers.base",
    "build": "registry",
    "list_quantizers": "registry",
}


def __getattr__(name: str):
    # torch takes seconds to import, which `sbvq --help` should not cost.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
