"""Checks of the search with a beam, of quantizers that offer it."""

from typing import Any, cast

import torch

from sb_espnet_vq.quantizers.chain import beam_options
from sb_espnet_vq.testing.helpers import (
    frames,
    labels_for,
    make_started,
    refused,
    same,
    same_state,
    some_mask,
    state_of,
)
from sb_espnet_vq.testing.registry import contract_check

# Errors are sums of squares in float32.
_ROUNDING = 1e-5


@contract_check
def a_beam_is_never_worse(name, options):
    """beam=1 is the usual search; more chains increase the error of no frame."""
    q = make_started(name, options).eval()
    if not q.takes_beam:
        refused(lambda: beam_options(q, 2), type(q).__name__, "beam=2")
        assert beam_options(q, 1) == {}
        return
    x, mask, labels = frames(q, 3, 40), some_mask(3, 40), labels_for(q, 3)
    x[1, 0] = torch.nan
    valid = mask & x.isfinite().all(-1)
    before, encode = state_of(q), cast(Any, q).encode
    for k in {1, q.n_codebooks}:
        given: dict[str, Any] = {"mask": mask, "labels": labels, "n_codebooks": k}
        usual = encode(x, **given)
        same(encode(x, beam=1, **given), usual, f"beam=1, {k} codebooks")
        errors = _errors(q, x, usual)
        for beam in (2, 5):
            codes = encode(x, beam=beam, **given)
            assert codes.shape == usual.shape, f"codes of a beam: {tuple(codes.shape)}"
            same(codes[~valid], torch.full_like(codes[~valid], -1), "no valid frame")
            more = _errors(q, x, codes)[valid] - errors[valid]
            assert bool((more <= _ROUNDING * errors[valid]).all()), (
                f"with beam={beam} and {k} codebooks the error of a frame is "
                f"{float(more.max()):.3g} above that of the usual search"
            )
    same_state(q, before, "after encode with a beam")
    for wrong in (0, -1, 1.5, True, "2"):
        refused(lambda n=wrong: encode(x, beam=n), "beam", repr(wrong))


def _errors(q, x, codes):
    return (q.decode(codes) - x).square().sum(-1)
