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


def write_included(tree: dict[str, Any]) -> str:
    """Return the text of a file that holds one tree, which ``!include:FILE`` becomes.

    Arguments
    ---------
    tree : dict
        Of a class, without references: a file that is included cannot refer to others.

    Returns
    -------
    str

    Example
    -------
    >>> linear = {"class": "torch.nn.Linear", "options": {"in_features": 2}}
    >>> print(write_included(linear), end="")
    !new:torch.nn.Linear
    in_features: 2
    """
    lines = [f"{_TAGS['class']}:{tree['class']}"]
    for name, each in tree["options"].items():
        lines += _lines(name, each, "")
    return "\n".join(lines) + "\n"


def _lines(key: str, node: Any, indent: str) -> list[str]:
    # A key could hold YAML of its own.
    key = key if key.isidentifier() else json.dumps(key)
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
    # JSON is YAML.
    return json.dumps(node)
