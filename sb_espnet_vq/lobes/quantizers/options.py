"""A role's own arguments and a user's options, as one family takes them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.registry import quantizer_options

# What every family takes, even one whose signature names nothing.
_COMMON = {"dim", "codebook_size"}


def family_options(
    quantizer: str, mapped: dict[str, Any], conf: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the options to build a family with.

    Arguments
    ---------
    quantizer : str
        A registered name.
    mapped : dict
        What the role's arguments say, by the families' names; those that the family
        does not have are left out.
    conf : dict, optional
        What the user says, which wins. It is not changed.

    Returns
    -------
    dict

    Raises
    ------
    ConfigError
        If the name is unknown, ``conf`` is no dict, or it names another ``dim`` than
        the frames of the role have.

    Example
    -------
    >>> mapped = {"dim": 8, "codebook_size": 32, "n_codebooks": 1}
    >>> family_options("vq", mapped, {"codebook_size": 16})
    {'dim': 8, 'codebook_size': 16}
    """
    known = _COMMON | set(quantizer_options(quantizer))
    options = {name: value for name, value in mapped.items() if name in known}
    if not isinstance(conf, Mapping | None):
        raise ConfigError(
            "quantizer_conf must be a dict of the quantizer's options, got "
            f"{type(conf).__name__}"
        )
    options |= conf or {}
    if options["dim"] != mapped["dim"]:
        raise ConfigError(
            f"quantizer_conf sets dim to {options['dim']!r}, but the frames that come "
            f"in here are {mapped['dim']!r} wide; leave dim out"
        )
    return options


def squeeze_codes(codes: Tensor) -> Tensor:
    """Drop the last axis of codes (..., K) where there is one codebook.

    Arguments
    ---------
    codes : torch.Tensor
        (..., K) int64.

    Returns
    -------
    torch.Tensor
        (...) where K is 1, else (..., K).
    """
    return codes[..., 0] if codes.shape[-1] == 1 else codes
