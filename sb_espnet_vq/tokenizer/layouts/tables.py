"""Quantizers that are one table: PIQ's dictionary, and centres of k-means."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sb_espnet_vq.tokenizer.layouts.base import Layout, Rule, State, need

CENTRES = "centres"


def _describe_piq(state: State, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    size, dim = state.sizes("embedding.weight", 2)
    classes = {"num_classes": need(given, "num_classes")}
    classes["shared_keys"] = given.get("shared_keys", 0)
    return "class_partitioned", {"dim": dim, "codebook_size": size, **classes}


def _describe_kmeans(
    state: State, given: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    size, dim = state.sizes(CENTRES, 2)
    return "vq", {"dim": dim, "codebook_size": size, "codebook": "frozen"}


def _one(theirs: str, ours: str):
    def rules(own: Mapping[str, Tensor]) -> list[Rule]:
        return [Rule((theirs,), (ours,))]

    return rules


SPEECHBRAIN_PIQ = Layout(
    "PIQ's dictionary in SpeechBrain",
    # Other networks have an embedding too.
    r"((?:.*\.)?codebook\.|)embedding\.weight",
    _describe_piq,
    _one("embedding.weight", "embedding.weight"),
    ("num_classes", "shared_keys"),
)
KMEANS = Layout(
    "centres of k-means (V, D), a file .npy",
    f"(){CENTRES}",
    _describe_kmeans,
    _one(CENTRES, "_codebook.table"),
)
