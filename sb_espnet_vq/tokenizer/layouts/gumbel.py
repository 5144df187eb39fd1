"""wav2vec 2.0's Gumbel quantizer, of SpeechBrain and of transformers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.errors import CheckpointError
from sb_espnet_vq.tokenizer.layouts.base import Layout, Rule, State, need

# Its values may have another width than its frames, which no registered name allows.
QUANTIZER = "sb_espnet_vq.quantizers.gumbel.GumbelGroups"
_LINEAR = ("weight_proj.weight", "weight_proj.bias")


def _describe(table: str):
    def describe(state: State, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        groups = need(given, "n_codebooks")
        _, entries, width = state.sizes(table, 3)
        _, dim = state.sizes("weight_proj.weight", 2)
        if groups < 1 or entries % groups:
            raise CheckpointError(
                f"{entries} codebook vectors cannot be those of n_codebooks={groups} "
                "groups of equal size"
            )
        sizes = {"dim": dim, "codebook_size": entries // groups, "n_codebooks": groups}
        # Of training: the start, stop and decay of wav2vec 2.0.
        temperature = [2.0, 0.5, 0.999995]
        return QUANTIZER, {
            **sizes,
            "out_dim": groups * width,
            "temperature": temperature,
        }

    return describe


def _rules(*tables: Rule):
    def rules(own: Mapping[str, Tensor]) -> list[Rule]:
        return [*tables, *(Rule((name,), (name,)) for name in _LINEAR)]

    return rules


def _with_entropy(table: Tensor) -> tuple[Tensor, ...]:
    """Return the table and the logarithm of its number of vectors, a constant."""
    return table, torch.tensor(float(table.shape[1])).log()


SPEECHBRAIN_GUMBEL = Layout(
    "wav2vec 2.0 in SpeechBrain",
    r"((?:.*\.)?)(?:vars|max_ent)",
    _describe("vars"),
    _rules(
        Rule(("vars", "max_ent"), ("vars",), lambda table, _: (table,), _with_entropy)
    ),
    ("n_codebooks",),
)
TRANSFORMERS_WAV2VEC2 = Layout(
    "wav2vec 2.0 in transformers",
    r"((?:.*\.)?)codevectors",
    _describe("codevectors"),
    _rules(Rule(("codevectors",), ("vars",))),
    ("n_codebooks",),
)
