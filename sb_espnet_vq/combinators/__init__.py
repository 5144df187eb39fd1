"""Quantizers made of other quantizers, which are given by name.

Each class can be imported from here and from `sb_espnet_vq`.

Example
-------
>>> from sb_espnet_vq.combinators import Grouped
>>> Grouped(dim=16, codebook_size=32, n_codebooks=4, n_groups=2).n_codebooks
4
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sb_espnet_vq.combinators.grouped import Grouped
    from sb_espnet_vq.combinators.residual import Residual
    from sb_espnet_vq.combinators.split import Split
    from sb_espnet_vq.combinators.warm_start import WarmStart

__all__ = ["Grouped", "Residual", "Split", "WarmStart"]

_MODULES = {
    "Grouped": "grouped",
    "Residual": "residual",
    "Split": "split",
    "WarmStart": "warm_start",
}


def __getattr__(name: str):
    # As in `sb_espnet_vq.quantizers`: torch is imported when a class is first used.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
