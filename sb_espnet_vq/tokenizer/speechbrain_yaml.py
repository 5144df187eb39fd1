"""HyperPyYAML text of trees of networks (see `trees`), as SpeechBrain reads it."""

from __future__ import annotations

import json
from typing import Any

_TAGS = {"class": "!new", "partial": "!name"}


def write_yaml(nodes: dict[str, Any], comments: tuple[str, ...] = ()) -> str:
    """Return the text of a HyperPyYAML file.

    Arguments
    ---------
    nodes : dict
        Values by name: trees as of `trees.describe`, whose options may be a list of
        positional arguments, and references to other names, ``{"ref": NAME}``.
    comments : tuple of str
        Lines at the top.

    Returns
    -------
    str

    Example
    -------
    >>> linear = {"class": "torch.nn.Linear", "options": {"in_features": 2}}
    >>> print(write_yaml({"a": linear, "modules": {"b": {"ref": "a"}}}), end="")
    a: !new:torch.nn.Linear
        in_features: 2
    modules:
        b: !ref <a>
    """
    lines = [f"# {comment}" for comment in comments]
    for name, node in nodes.items():
        lines += _lines(name, node, "")
    return "\n".join(lines) + "\n"


def _lines(key: str, node: Any, indent: str) -> list[str]:
    if not isinstance(node, dict) or not node or "ref" in node:
        return [f"{indent}{key}: {_inline(node)}"]
    below, head = node, f"{indent}{key}:"
    for kind in _TAGS.keys() & node.keys():
        below, head = node["options"], f"{head} {_TAGS[kind]}:{node[kind]}"
    lines = [head]
    if isinstance(below, list):
        return lines + [f"{indent}    - {_inline(each)}" for each in below]
    for name, each in below.items():
        lines += _lines(name, each, f"{indent}    ")
    return lines


def _inline(node: Any) -> str:
    if isinstance(node, dict) and "ref" in node:
        return f"!ref <{node['ref']}>"
    if isinstance(node, list):
        return f"[{', '.join(map(_inline, node))}]"
    text = json.dumps(node)
    # YAML reads 1e-05 as a word, but 1.0e-05 as a number.
    if isinstance(node, float) and "e" in text and "." not in text:
        return text.replace("e", ".0e")
    return text
