"""The codebooks by name, and the options that each has."""

import inspect
from collections.abc import Mapping
from typing import Any

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.quantizers.codebook import Codebook
from sb_espnet_vq.quantizers.ema_codebook import EMACodebook
from sb_espnet_vq.quantizers.frozen_codebook import FrozenCodebook
from sb_espnet_vq.quantizers.gradient_codebook import GradientCodebook
from sb_espnet_vq.quantizers.options import one_of
from sb_espnet_vq.quantizers.simvq_codebook import SimVQCodebook

CODEBOOKS: dict[str, type[Codebook]] = {
    "ema": EMACodebook,
    "gradient": GradientCodebook,
    "simvq": SimVQCodebook,
    "frozen": FrozenCodebook,
}

# Options of the quantizer, not of its codebook.
_COMMON = ("dim", "codebook_size", "metric")


def build_codebook(
    kind: str, dim: int, codebook_size: int, metric: str, options: Mapping[str, Any]
) -> Codebook:
    """Build a codebook by name.

    Arguments
    ---------
    kind : str
        ``ema``, ``gradient``, ``simvq`` or ``frozen``.
    dim, codebook_size, metric
        As in `Codebook`.
    options : Mapping
        Options of that codebook.

    Returns
    -------
    Codebook

    Raises
    ------
    ConfigError
        If there is no such codebook, or it has no such option.

    Example
    -------
    >>> build_codebook("ema", 4, 8, "euclidean", {"decay": 0.9}).decay
    0.9
    """
    known = codebook_options(kind)
    if unknown := [option for option in options if option not in known]:
        raise ConfigError(
            f"the codebook {kind!r} has no option {unknown[0]!r}; its options are "
            f"{', '.join(known)}"
        )
    return CODEBOOKS[kind](dim, codebook_size, metric=metric, **options)


def codebook_options(kind: str) -> dict[str, inspect.Parameter]:
    """Return the options of a codebook, without those common to all.

    Raises
    ------
    ConfigError
        If there is no such codebook.

    Example
    -------
    >>> list(codebook_options("frozen"))
    ['kmeans_init', 'kmeans_iters']
    """
    cls = CODEBOOKS[one_of("codebook", kind, CODEBOOKS)]
    options = inspect.signature(cls).parameters
    return {name: o for name, o in options.items() if name not in _COMMON}


def with_codebook_options(
    own: Mapping[str, inspect.Parameter], given: Mapping[str, Any]
) -> dict[str, inspect.Parameter]:
    """Return a quantizer's options with those of its codebook.

    Arguments
    ---------
    own : Mapping
        Options of the constructor: ``codebook``, and ``**`` for those of the codebook.
        Without either they are returned unchanged.
    given : Mapping
        Options that a user sets; ``codebook`` chooses the codebook.

    Returns
    -------
    dict

    Raises
    ------
    ConfigError
        If there is no such codebook.
    """
    named = {name: o for name, o in own.items() if o.kind is not o.VAR_KEYWORD}
    if len(named) == len(own) or "codebook" not in named:
        return dict(own)
    return named | codebook_options(given.get("codebook", named["codebook"].default))
