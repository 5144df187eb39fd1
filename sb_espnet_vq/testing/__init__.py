"""The contract of quantizers as checks that anyone can run on a registered quantizer.

With pytest, from another package::

    import pytest
    from sb_espnet_vq import testing

    @pytest.mark.parametrize("check", testing.list_checks(), ids=str)
    def test_contract(check):
        if reason := testing.known_exception("my_quantizer", check.name):
            pytest.xfail(reason)
        check("my_quantizer")

or on the command line: ``sbvq check my_quantizer``.

A quantizer is built with ``dim=8, codebook_size=16``, or with what its class offers
as ``contract_options`` (a dict, or a classmethod that returns one). Where training
draws codes at random it says so by ``draws_codes = True``, and is then not asked
for the same codes twice. What it cannot keep it lists in ``contract_exceptions``, a
dict of check names to reasons.
"""

from sb_espnet_vq.testing import (
    batches,
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
    """Return all checks, the quick ones first.

    Returns
    -------
    list of Check

    Example
    -------
    >>> [check.name for check in list_checks()][:2]
    ['output_shapes', 'leading_shapes']
    """
    return all_checks(_MODULES)
