"""Mimi's quantizer: the first codebook apart from a residual chain of the others."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.tokenizer.layouts.base import (
    Layout,
    Rule,
    State,
    column,
    convolution,
    count,
)

# Below this usage, the sum of a code's frames is not divided by less.
_LEAST = 1e-5


def _read(initialized: Tensor, usage: Tensor, total: Tensor) -> tuple[Tensor, ...]:
    return initialized, usage, _mean(usage, total), total


def _write(
    inited: Tensor, cluster_size: Tensor, embed: Tensor, embed_avg: Tensor
) -> tuple[Tensor, ...]:
    """Return the sum whose mean is the codebook vector: the average where it is."""
    scaled = embed * cluster_size.clamp(min=_LEAST)[:, None]
    known = (_mean(cluster_size, embed_avg) == embed).all(1, keepdim=True)
    return inited, cluster_size, torch.where(known, embed_avg, scaled)


def _mean(usage: Tensor, total: Tensor) -> Tensor:
    return total / usage.clamp(min=_LEAST)[:, None]


def _layout(
    title: str, parts: tuple[str, str], book: str, names: tuple[str, str, str]
) -> Layout:
    """Return the layout with the two ``parts`` and the buffers ``names`` of a book."""
    levels = book.split("{}")[0].replace(".", r"\.") + r"(\d+)\."

    def describe(state: State, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        size, width = state.sizes(f"{parts[0]}.{book.format(0)}.{names[2]}", 2)
        _, dim, _ = state.sizes(f"{parts[0]}.input_proj.weight", 3)
        first, rest = (count(state, rf"{part}\.{levels}") for part in parts)
        sizes = {"dim": dim, "codebook_size": size, "n_codebooks": first + rest}
        options: dict[str, Any] = {**sizes, "code_dim": width}
        if first > 1:
            options |= {"first": "rvq", "first_conf": {"n_codebooks": first}}
        return "split", options

    def rules(own: Mapping[str, Tensor]) -> list[Rule]:
        return [
            rule
            for number, part in enumerate(parts)
            for rule in _part(number, part, book, names, own)
        ]

    return Layout(title, rf"((?:.*\.)?)(?:{'|'.join(parts)})\..*", describe, rules)


def _part(
    number: int,
    part: str,
    book: str,
    names: tuple[str, str, str],
    own: Mapping[str, Tensor],
) -> list[Rule]:
    mine = f"parts.{number}."
    levels = count(own, rf"parts\.{number}\.layers\.(\d+)\.")
    # A part with one codebook may be a single one instead of a chain.
    books = [f"{mine}layers.{level}._codebook" for level in range(levels)]
    books = books or [f"{mine}_codebook"]
    rules = [
        Rule(
            (f"{part}.{theirs}.weight",),
            (f"{ours}.{number}.weight",),
            column,
            convolution,
        )
        for theirs, ours in (
            ("input_proj", "project_in"),
            ("output_proj", "project_out"),
        )
    ]
    for level, ours in enumerate(books):
        theirs = f"{part}.{book.format(level)}"
        buffers = "inited", "cluster_size", "embed", "embed_avg"
        rules.append(
            Rule(
                tuple(f"{theirs}.{name}" for name in names),
                tuple(f"{ours}.{name}" for name in buffers),
                _read,
                _write,
            )
        )
    return rules


MIMI = _layout(
    "Mimi in moshi",
    ("rvq_first", "rvq_rest"),
    "vq.layers.{}._codebook",
    ("_initialized", "cluster_usage", "embedding_sum"),
)
TRANSFORMERS_MIMI = _layout(
    "Mimi in transformers",
    ("semantic_residual_vector_quantizer", "acoustic_residual_vector_quantizer"),
    "layers.{}.codebook",
    ("initialized", "cluster_usage", "embed_sum"),
)
