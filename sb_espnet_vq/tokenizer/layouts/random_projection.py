"""BEST-RQ's random projections and codebooks, of SpeechBrain and of NeMo."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sb_espnet_vq.errors import CheckpointError
from sb_espnet_vq.tokenizer.layouts.base import Layout, Rule, State

# Of the norm of codebook vectors from 1; half precision rounds by about 0.001.
_TOLERANCE = 5e-3


def _unit(codebook: Tensor) -> tuple[Tensor, ...]:
    """Return a codebook (V, D), of which all vectors have norm 1."""
    norms = codebook.norm(dim=-1)
    if bool(((norms - 1).abs() > _TOLERANCE).any()):
        raise CheckpointError(
            "the codebook vectors must have norm 1, got norms from "
            f"{float(norms.min()):.3g} to {float(norms.max()):.3g}"
        )
    return (codebook,)


def _describe_speechbrain(
    state: State, given: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    dim, width = state.sizes("P", 2)
    size, _ = state.sizes("CB", 2)
    sizes = {"dim": dim, "codebook_size": size, "code_dim": width}
    return "random_projection", sizes


def _rules_speechbrain(own: Mapping[str, Tensor]) -> list[Rule]:
    return [Rule(("P",), ("P",)), Rule(("CB",), ("CB",), _unit)]


def _describe_nemo(
    state: State, given: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    books, size, width = state.sizes("codebooks", 3)
    _, dim = state.sizes("proj.weight", 2)
    sizes = {"dim": dim, "codebook_size": size, "code_dim": width}
    return "random_projection", {**sizes, "n_codebooks": books}


def _rules_nemo(own: Mapping[str, Tensor]) -> list[Rule]:
    # Both matrices have all codebooks, one after the other.
    # Another quantizer has neither: the caller reports the missing name.
    both = "P" in own and "CB" in own
    books = own["P"].shape[1] // own["CB"].shape[1] if both else 1
    return [
        Rule(("proj.weight",), ("P",), _transposed, _transposed),
        Rule(
            ("codebooks",),
            ("CB",),
            lambda codebooks: _unit(codebooks.flatten(0, 1)),
            lambda flat: (flat.unflatten(0, (books, -1)),),
        ),
    ]


def _transposed(matrix: Tensor) -> tuple[Tensor, ...]:
    return (matrix.t(),)


SPEECHBRAIN_BEST_RQ = Layout(
    "BEST-RQ in SpeechBrain",
    r"((?:.*\.)?)(?:P|CB)",
    _describe_speechbrain,
    _rules_speechbrain,
)
NEMO_BEST_RQ = Layout(
    "BEST-RQ in NeMo",
    r"((?:.*\.)?)codebooks",
    _describe_nemo,
    _rules_nemo,
)
