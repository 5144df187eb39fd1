"""Networks as trees of constructor calls, which JSON can hold.

A node ``{"class": PATH, "options": {...}}`` is an object, ``{"partial": PATH,
"options": {...}}`` a class with some of its arguments. Only the paths in `CLASSES` are
ever imported, and other strings are plain words: a quantizer is given by its registered
name, since the path of a class would be imported too. A tree of unknown origin can
therefore run no code but that of these classes.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from ruamel.yaml.scalarbool import ScalarBoolean

from sb_espnet_vq.errors import ConfigError

_TRANSFORMER = "speechbrain.lobes.models.transformer"
CLASSES = frozenset(
    {
        "sb_espnet_vq.codec.model.Codec",
        "sb_espnet_vq.codec.networks.ConvDecoder",
        "sb_espnet_vq.codec.networks.ConvEncoder",
        "sb_espnet_vq.lobes.quantizers.ContrastiveQuantizer",
        "sb_espnet_vq.lobes.quantizers.TargetQuantizer",
        "sb_espnet_vq.ssl.front_ends.LogMelFrontEnd",
        "sb_espnet_vq.ssl.front_ends.StackFrames",
        "sb_espnet_vq.ssl.front_ends.WaveformFrontEnd",
        "sb_espnet_vq.ssl.positions.LongPositionalEncoding",
        "speechbrain.lobes.features.Fbank",
        "speechbrain.lobes.models.convolution.ConvolutionFrontEnd",
        f"{_TRANSFORMER}.Conformer.ConformerEncoder",
        f"{_TRANSFORMER}.Transformer.TransformerEncoder",
        f"{_TRANSFORMER}.TransformerASR.EncoderWrapper",
        f"{_TRANSFORMER}.TransformerASR.TransformerASR",
        "speechbrain.lobes.models.wav2vec.EncoderWrapper",
        "speechbrain.lobes.models.wav2vec.W2VLatentExtractor",
        "speechbrain.lobes.models.wav2vec.W2VTargetQuantiser",
        "speechbrain.processing.features.InputNormalization",
        "torch.nn.GELU",
        "torch.nn.ReLU",
    }
)
_WORD = re.compile(r"[\w-]*")


def build(tree: Any, place: str = "options") -> Any:
    """Build what a tree describes.

    Arguments
    ---------
    tree : object
        Of dicts, lists, numbers, words and None.
    place : str
        Where it stands, for errors.

    Returns
    -------
    object

    Raises
    ------
    ConfigError
        If a class is not one of `CLASSES`, cannot be imported or refuses its options,
        or if a string is not a word.

    Example
    -------
    >>> path = "sb_espnet_vq.ssl.front_ends.StackFrames"
    >>> build({"class": path, "options": {"stack": 4}}).stack
    4
    """
    if isinstance(tree, str):
        if not _WORD.fullmatch(tree):
            raise ConfigError(
                f"{place}: {tree!r} is not a plain word; a quantizer is given by its "
                "registered name, since the path of a class would be imported"
            )
        return tree
    if isinstance(tree, list):
        return [build(each, f"{place}[{n}]") for n, each in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    kinds = [kind for kind in ("class", "partial") if kind in tree]
    if not kinds:
        return {key: build(each, f"{place}.{key}") for key, each in tree.items()}
    path = tree[kinds[0]]
    found = _class(path, place)
    options = build(tree.get("options", {}), place)
    if kinds == ["partial"]:
        return functools.partial(found, **options)
    try:
        return found(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{place}: {path} cannot be built: {error}") from error


def describe(node: Any, place: str) -> Any:
    """Return the tree of a node of a HyperPyYAML file, with references resolved.

    Arguments
    ---------
    node : object
        As ruamel reads it from the hyperparams.yaml of a run.
    place : str
        Its key, for errors.

    Returns
    -------
    object
        A tree that `build` accepts.

    Raises
    ------
    ConfigError
        If the node calls something that no tree can hold.
    """
    tag = str(getattr(getattr(node, "tag", None), "value", None) or "")
    if tag.startswith(("!new:", "!name:")):
        kind, _, path = tag.partition(":")
        _allow(path, place)
        known = isinstance(node, Mapping)
        options = _describe_all(node, place) if known else {}
        return {{"!new": "class", "!name": "partial"}[kind]: path, "options": options}
    if tag == "!apply:operator.getitem":
        values, index = node
        return describe(values[index], place)
    if tag == "!tuple":
        return _word_or_tuple(str(node.value))
    if tag.startswith("!"):
        raise ConfigError(f"{place}: a tokenizer cannot hold the result of {tag}")
    if isinstance(node, Mapping):
        return _describe_all(node, place)
    if isinstance(node, str):
        return _word_or_tuple(str(node))
    if isinstance(node, Sequence):
        return [describe(each, place) for each in node]
    if isinstance(node, bool | ScalarBoolean):
        return bool(node)
    # Plain numbers instead of ruamel's, which keep their notation.
    return node.real if isinstance(node, int | float) else node


def _describe_all(node: Mapping, place: str) -> dict[str, Any]:
    return {str(k): describe(each, f"{place}.{k}") for k, each in node.items()}


def _word_or_tuple(text: str) -> Any:
    # HyperPyYAML reads such strings as tuples.
    if not re.fullmatch(r"\(.*\)", text):
        return text
    try:
        return list(ast.literal_eval(text))
    except (SyntaxError, TypeError, ValueError):
        return text


def _class(path: Any, place: str) -> Any:
    _allow(path, place)
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise ConfigError(
            f"{place}: {path} cannot be imported ({error}); install the toolkit that "
            "it belongs to"
        ) from error


def _allow(path: Any, place: str) -> None:
    if path not in CLASSES:
        raise ConfigError(
            f"{place}: {path} is not one of the classes that a tokenizer may consist "
            f"of: {', '.join(sorted(CLASSES))}"
        )
