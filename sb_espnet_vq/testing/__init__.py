"""Contract checks for registered quantizers of any package.

With pytest::

    import pytest
    from sb_espnet_vq import testing

    @pytest.mark.parametrize("check", testing.list_checks(), ids=str)
    def test_contract(check):
        if reason := testing.known_exception("my_quantizer", check.name):
            pytest.xfail(reason)
        check("my_quantizer")

or on the command line: ``sbvq check my_quantizer``.

A quantizer is built with ``dim=8, codebook_size=16`` and with the options in its class
attribute ``contract_options`` (a dict, or a classmethod that returns one). A quantizer
that samples codes in training sets ``draws_codes = True``; checks then do not expect
equal codes. Checks that it cannot pass are listed in ``contract_exceptions``, a dict of
check names to reasons.
"""

from sb_espnet_vq.testing import (
    batches,
    beams,
    devices,
    errors,
    exports,
    masks,
    members,
    outputs,
    precision,
    ranks,
    state,
    tracing,
    trainers,
    wrappers,
)
from sb_espnet_vq.testing.registry import Check, all_checks, known_exception

__all__ = ["Check", "known_exception", "list_checks"]

# Importing a module of checks registers them.
_MODULES = (
    outputs,
    members,
    beams,
    masks,
    batches,
    precision,
    errors,
    state,
    devices,
    trainers,
    tracing,
    exports,
    ranks,
    wrappers,
)


def list_checks() -> list[Check]:
    """Return all checks, quick ones first.

    Returns
    -------
    list of Check

    Example
    -------
    >>> [check.name for check in list_checks()][:2]
    ['output_shapes', 'leading_shapes']
    """
    return all_checks(_MODULES)
