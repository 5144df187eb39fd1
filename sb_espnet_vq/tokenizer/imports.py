"""Quantizers of other programs: their tensors to ours, and back."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import CheckpointError, ConfigError
from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.registry import build
from sb_espnet_vq.tokenizer.layouts import LAYOUTS
from sb_espnet_vq.tokenizer.layouts.base import Layout, Rule, State

# Frames with which an export to another layout is tried.
_FRAMES = 256
# The share of them that may have another code.
_TIES = 0.01


class Origin(NamedTuple):
    """Where an imported quantizer comes from.

    layout : a name of `LAYOUTS`; prefix : what precedes the names of its tensors; given
    : options that the tensors do not show; originals : those tensors, by name without
    prefix, that ours hold rounded or combined, so that they return unchanged.
    """

    layout: str
    prefix: str
    given: dict[str, Any]
    originals: dict[str, Tensor]


class Imported(NamedTuple):
    """An imported quantizer in eval mode, and where it comes from.

    name, options : those of `build`.
    """

    quantizer: Quantizer
    name: str
    options: dict[str, Any]
    origin: Origin


def import_quantizer(
    source: nn.Module | Mapping[str, Any],
    layout: str | None = None,
    prefix: str | None = None,
    **given: Any,
) -> Imported:
    """Make a quantizer of this package from one of another program.

    Arguments
    ---------
    source : torch.nn.Module or Mapping
        The quantizer, a model that contains it, or the state dict of either; also a
        dict that contains the state dict, such as the checkpoint of a trainer.
    layout : str, optional
        A name of `LAYOUTS`. Default: the one that the names of the tensors show.
    prefix : str, optional
        What precedes the names of the quantizer's tensors. Default: what the names
        show; needed only if the source has several quantizers.
    **given
        Options that the tensors do not show: ``n_codebooks`` of Gumbel quantizers,
        ``num_classes`` and ``shared_keys`` of PIQ's dictionary.

    Returns
    -------
    Imported
        With a copy of the tensors.

    Raises
    ------
    CheckpointError
        If no layout fits, with those that there are; or with the first tensor that is
        missing, unexpected or of the wrong shape.
    ConfigError
        If there is no such layout, or an option is missing or unknown.

    Example
    -------
    >>> centres = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> imported = import_quantizer({"centres": centres})
    >>> imported.origin.layout, imported.name
    ('kmeans', 'vq')
    >>> imported.quantizer.encode(torch.tensor([[[0.9, 1.2], [0.1, 0.0]]]))[0, :, 0]
    tensor([1, 0])
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    state = source.state_dict() if isinstance(source, nn.Module) else source
    name, prefix, state = _place(list(_state_dicts(state)), layout, prefix)
    chosen = LAYOUTS[name]
    if unknown := [option for option in given if option not in chosen.given]:
        raise ConfigError(
            f"the layout {name} takes no option {unknown[0]!r}, only "
            f"{', '.join(chosen.given) or 'what its tensors show'}"
        )
    theirs = State(
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    )
    try:
        return _imported(name, chosen, prefix, theirs, given)
    except CheckpointError as error:
        raise CheckpointError(
            f"layout {name} (names begin with {prefix!r}): {error}"
        ) from error


def original_state(quantizer: Quantizer, origin: Origin) -> dict[str, Tensor]:
    """Return an imported quantizer's tensors as the program it comes from has them.

    Arguments
    ---------
    quantizer : Quantizer
        As imported, or with other values.
    origin : Origin

    Returns
    -------
    dict
        Equal to what was imported if the quantizer has not changed: names, shapes,
        dtypes and values. Tensors of which ours have other values are computed from
        ours.

    Raises
    ------
    ConfigError
        If the quantizer is not one of the layout.

    Example
    -------
    >>> centres = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    >>> imported = import_quantizer({"centres": centres})
    >>> original_state(imported.quantizer, imported.origin)["centres"].dtype
    torch.float64
    """
    own = quantizer.state_dict()
    written: dict[str, Tensor] = {}
    for rule in _rules(origin.layout, own):
        found = [origin.originals.get(name) for name in rule.theirs]
        kept = [tensor for tensor in found if tensor is not None]
        if len(kept) < len(found) or not _holds(rule, own, kept):
            kept = list(rule.write(*(own[name] for name in rule.ours)))
        written |= dict(zip(rule.theirs, kept, strict=True))
    return {
        origin.prefix + name: value.detach().clone().contiguous()
        for name, value in written.items()
    }


def state_in_layout(quantizer: Quantizer, layout: str) -> dict[str, Tensor]:
    """Return the tensors of any quantizer in a layout, without prefix.

    What is written is read again, and must give the same codes and values.

    Arguments
    ---------
    quantizer : Quantizer
        Trained here, or imported from another layout.
    layout : str
        A name of `LAYOUTS`.

    Returns
    -------
    dict

    Raises
    ------
    ConfigError
        If the layout cannot hold the quantizer, with the reason.

    Example
    -------
    >>> sizes = {"dim": 8, "codebook_size": 4, "n_codebooks": 1}
    >>> kind = {"code_dim": 2, "codebook": "gradient", "metric": "cosine"}
    >>> sorted(state_in_layout(build("rvq", **sizes, **kind), "transformers_dac"))[0]
    'quantizers.0.codebook.weight'
    >>> state_in_layout(build("vq", dim=8, codebook_size=4), "dac")
    Traceback (most recent call last):
    ...
    sb_espnet_vq.errors.ConfigError: VQ cannot be written in the layout dac: ...
    """
    refused = f"{type(quantizer).__name__} cannot be written in the layout {layout}"
    # As what is read again will be.
    quantizer = copy.deepcopy(quantizer).cpu().float().eval()
    given = {
        name: getattr(quantizer, name)
        for name in LAYOUTS[layout].given
        if hasattr(quantizer, name)
    }
    try:
        state = original_state(quantizer, Origin(layout, "", given, {}))
        back = import_quantizer(state, layout, "", **given).quantizer
    except (CheckpointError, ConfigError, TypeError) as error:
        raise ConfigError(f"{refused}: {error}") from error
    if not _same(quantizer, back):
        raise ConfigError(f"{refused}: read again, it gives other codes or values")
    return state


def _state_dicts(source: Any) -> Iterator[dict[str, Tensor]]:
    """Yield the dicts of tensors in a dict, which may be in other dicts."""
    if not isinstance(source, Mapping):
        return
    tensors = {str(k): v for k, v in source.items() if isinstance(v, Tensor)}
    if tensors:
        yield tensors
    for value in source.values():
        yield from _state_dicts(value)


def _place(
    states: list[dict[str, Tensor]], layout: str | None, prefix: str | None
) -> tuple[str, str, dict[str, Tensor]]:
    """Return the layout and the prefix that the names show, and their state dict."""
    if not states:
        raise CheckpointError("not a state dict (tensors by name), nor a dict with one")
    there = {
        (name, match[1], number)
        for name in ([layout] if layout else LAYOUTS)
        for number, state in enumerate(states)
        for key in state
        if (match := re.fullmatch(LAYOUTS[name].key, key))
    }
    found = {each for each in there if prefix in (None, each[1])}
    if len(found) == 1:
        name, place, number = next(iter(found))
        return name, place, states[number]
    largest = max(states, key=len)
    if there:
        places = sorted({(name, place) for name, place, _ in found or there})
        several = ", ".join(f"{name} at {place!r}" for name, place in places)
        raise CheckpointError(_undecided(several, len(places), len(found), prefix))
    if layout is not None:
        # To tell what is missing.
        return layout, prefix or "", largest
    known = "; ".join(f"{name}: {each.title}" for name, each in LAYOUTS.items())
    raise CheckpointError(
        f"no layout fits the names {', '.join(list(largest)[:3])}, ... Known layouts: "
        f"{known}"
    )


def _undecided(several: str, places: int, found: int, prefix: str | None) -> str:
    """Return why none of some quantizers is chosen."""
    if not found:
        return f"no quantizer at the prefix {prefix!r}, but {several}"
    if places == 1:
        return (
            f"several state dicts have {several}: pass the one to import, or save it "
            "to a file of its own"
        )
    return (
        f"several quantizers: {several}; choose one by layout and prefix, or pass its "
        "state dict"
    )


def _imported(
    name: str, layout: Layout, prefix: str, theirs: State, given: dict[str, Any]
) -> Imported:
    quantizer_name, options = layout.describe(theirs, given)
    quantizer = build(quantizer_name, **options).eval()
    own = quantizer.state_dict()
    rules = _rules(name, own)
    _refuse_other(theirs, rules, own)
    originals: dict[str, Tensor] = {}
    for rule in rules:
        before = [theirs[key].detach().cpu() for key in rule.theirs]
        # No quantizer is read in part: an error here leaves nothing behind.
        for key, value in zip(rule.ours, _read(rule, before), strict=True):
            own[key].copy_(value)
        after = rule.write(*(own[key] for key in rule.ours))
        if not all(_equal(*pair) for pair in zip(before, after, strict=True)):
            kept = zip(rule.theirs, before, strict=True)
            originals |= {key: value.clone() for key, value in kept}
    quantizer.load_state_dict(own)
    origin = Origin(name, prefix, dict(given), originals)
    return Imported(quantizer, quantizer_name, options, origin)


def _rules(layout: str, own: Mapping[str, Tensor]) -> list[Rule]:
    """Return the rules for the state of our quantizer, if it has their tensors."""
    rules = LAYOUTS[layout].rules(own)
    names = [name for rule in rules for name in rule.ours]
    missing = [name for name in names if name not in own]
    if missing or not names:
        lacks = missing[0] if missing else "levels"
        raise ConfigError(f"the quantizer has no {lacks}, only {', '.join(own)}")
    return rules


def _refuse_other(theirs: State, rules: list[Rule], own: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError with the first tensor that is not as it must be."""
    shapes: dict[str, torch.Size] = {}
    for rule in rules:
        tensors = rule.write(*(own[name] for name in rule.ours))
        shapes |= {k: v.shape for k, v in zip(rule.theirs, tensors, strict=True)}
    for key in shapes:
        if key not in theirs:
            raise CheckpointError(f"the tensor {key!r} is missing")
    for key in theirs:
        if key not in shapes:
            raise CheckpointError(f"unexpected tensor {key!r}")
    for key, shape in shapes.items():
        if theirs[key].shape != shape:
            raise CheckpointError(
                f"the tensor {key!r} must be {tuple(shape)}, got "
                f"{tuple(theirs[key].shape)}"
            )
        if len(shape) > 1 and not theirs[key].is_floating_point():
            raise CheckpointError(
                f"the tensor {key!r} must have floats, got {theirs[key].dtype}"
            )
        if not bool(theirs[key].isfinite().all()):
            raise CheckpointError(f"the tensor {key!r} has NaN or infinite values")


def _read(rule: Rule, theirs: list[Tensor]) -> tuple[Tensor, ...]:
    """Return our tensors, computed in float32 whatever the precision of theirs."""
    return rule.read(*(tensor.float() for tensor in theirs))


def _holds(rule: Rule, own: Mapping[str, Tensor], theirs: list[Tensor]) -> bool:
    """Return whether our tensors are what their tensors give."""
    pairs = zip(rule.ours, _read(rule, theirs), strict=True)
    return all(torch.equal(own[name], t.to(own[name])) for name, t in pairs)


def _equal(before: Tensor, after: Tensor) -> bool:
    return before.dtype == after.dtype and torch.equal(before, after)


@torch.no_grad()
def _same(one: Quantizer, other: Quantizer) -> bool:
    """Return whether two quantizers in eval mode give the same codes and values."""
    random = torch.Generator().manual_seed(0)
    sizes = torch.tensor(one.codebook_sizes)
    draws = torch.rand(_FRAMES, len(sizes), generator=random, dtype=torch.float64)
    codes = (draws * sizes).long()[None]
    if one.codebook_sizes != other.codebook_sizes or one.dim != other.dim:
        return False
    values = one.decode(codes)
    again = other.decode(codes)
    if values.shape != again.shape:
        return False
    if not torch.allclose(values, again, rtol=1e-4, atol=1e-6):
        return False
    x = torch.randn(1, _FRAMES, one.dim, generator=random)
    near = x * values.std() + (values if values.shape == x.shape else 0)
    # A few codes may differ, of which the scores are equal up to rounding.
    differ = [(one.encode(y) != other.encode(y)).any(-1) for y in (x, near)]
    return all(float(each.float().mean()) < _TIES for each in differ)
