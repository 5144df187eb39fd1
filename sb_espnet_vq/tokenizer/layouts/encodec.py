"""EnCodec's residual quantizer: codebooks of moving averages."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sb_espnet_vq.tokenizer.layouts.base import Layout, Rule, State, count

_BUFFERS = ("inited", "cluster_size", "embed", "embed_avg")


def _layout(title: str, book: str, projections: tuple[str, ...] = ()) -> Layout:
    """Return the layout with the codebook of level n in ``layers.n.{book}``.

    projections : the layers that a level may have around it.
    """

    def describe(state: State, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        size, width = state.sizes(f"layers.0.{book}.embed", 2)
        options = {"dim": width, "codebook_size": size}
        options["n_codebooks"] = count(state, r"layers\.(\d+)\.")
        if any(f"layers.0.{part}.weight" in state for part in projections):
            options["dim"] = state.sizes("layers.0.project_in.weight", 2)[1]
            options["code_dim"] = width
        return "rvq", options

    def rules(own: Mapping[str, Tensor]) -> list[Rule]:
        return [
            rule
            for level in range(count(own, r"layers\.(\d+)\."))
            for rule in _level(f"layers.{level}.", book, projections, own)
        ]

    end = rf"layers\.\d+\.{book}\.(?:{'|'.join(_BUFFERS)})"
    return Layout(title, rf"((?:.*\.)?){end}", describe, rules)


def _level(
    level: str, book: str, projections: tuple[str, ...], own: Mapping[str, Tensor]
) -> list[Rule]:
    names = [f"{level}{part}.{k}" for part in projections for k in ("weight", "bias")]
    present = [Rule((name,), (name,)) for name in names if name in own]
    theirs = tuple(f"{level}{book}.{name}" for name in _BUFFERS)
    ours = tuple(f"{level}_codebook.{name}" for name in _BUFFERS)
    return [*present, Rule(theirs, ours)]


ENCODEC = _layout(
    "EnCodec's own package, ESPnet, SpeechTokenizer, WavTokenizer",
    "_codebook",
    ("project_in", "project_out"),
)
TRANSFORMERS_ENCODEC = _layout("EnCodec in transformers", "codebook")
