"""DAC's residual quantizer: factorized codebooks, searched by angle."""

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

_PROJECTIONS = {"in_proj": "project_in", "out_proj": "project_out"}


def _folded(size: Tensor, direction: Tensor) -> tuple[Tensor, ...]:
    """Return the weight (out, in) of a weight norm, from (out, 1, 1), (out, in, 1)."""
    # As torch's weight norm computes it, to the last bit.
    return column(torch._weight_norm(direction, size, 0))


def _unfolded(weight: Tensor) -> tuple[Tensor, ...]:
    """Return a weight norm whose direction is the weight (out, in) itself."""
    (direction,) = convolution(weight)
    return direction.norm(dim=(1, 2), keepdim=True), direction


def _plain(layer: str, ours: str) -> Rule:
    return Rule((f"{layer}.weight",), (f"{ours}.weight",), column, convolution)


def _normed(layer: str, ours: str) -> Rule:
    theirs = f"{layer}.weight_g", f"{layer}.weight_v"
    return Rule(theirs, (f"{ours}.weight",), _folded, _unfolded)


def _parametrized(layer: str, ours: str) -> Rule:
    name = f"{layer}.parametrizations.weight.original"
    theirs = f"{name}0", f"{name}1"
    return Rule(theirs, (f"{ours}.weight",), _folded, _unfolded)


def _layout(title: str, key: str, weight) -> Layout:
    """Return the layout whose projections have the weights of ``weight``."""

    def describe(state: State, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        size, width = state.sizes("quantizers.0.codebook.weight", 2)
        (dim,) = state.sizes("quantizers.0.out_proj.bias", 1)
        levels = count(state, r"quantizers\.(\d+)\.")
        sizes = {"dim": dim, "codebook_size": size, "n_codebooks": levels}
        kind = {"codebook": "gradient", "metric": "cosine"}
        return "rvq", {**sizes, "code_dim": width, **kind}

    def rules(own: Mapping[str, Tensor]) -> list[Rule]:
        levels = range(count(own, r"layers\.(\d+)\."))
        return [rule for level in levels for rule in _level(level, weight)]

    pattern = rf"((?:.*\.)?)quantizers\.\d+\.(?:in|out)_proj\.{key}"
    return Layout(title, pattern, describe, rules)


def _level(level: int, weight) -> list[Rule]:
    theirs, ours = f"quantizers.{level}.", f"layers.{level}."
    rules = []
    for their_name, our_name in _PROJECTIONS.items():
        layer, own = theirs + their_name, ours + our_name
        rules += [weight(layer, own), Rule((f"{layer}.bias",), (f"{own}.bias",))]
    book = f"{theirs}codebook.weight", f"{ours}_codebook.weight"
    return [*rules, Rule(book[:1], book[1:])]


DAC = _layout("DAC's own package, with weight norm", r"weight_[gv]", _normed)
DAC_PARAMETRIZED = _layout(
    "DAC with weight norm as a parametrization of torch",
    r"parametrizations\.weight\.original[01]",
    _parametrized,
)
TRANSFORMERS_DAC = _layout("DAC in transformers", "weight", _plain)
