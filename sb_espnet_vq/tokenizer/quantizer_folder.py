"""A quantizer in a folder: config.json and model.safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sb_espnet_vq.errors import CheckpointError, ConfigError
from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.registry import build, list_quantizers
from sb_espnet_vq.tokenizer import hub_folder, tensor_file, trees
from sb_espnet_vq.tokenizer.imports import Imported, Origin
from sb_espnet_vq.tokenizer.layouts import LAYOUTS
from sb_espnet_vq.tokenizer.layouts.gumbel import QUANTIZER as GUMBEL
from sb_espnet_vq.utils.files import write_text

CONFIG, ORIGINALS = "config.json", "original.safetensors"
FORMAT = 1


def save_quantizer(imported: Imported, folder: str | Path) -> None:
    """Save an imported quantizer, and what its own program needs to get it back.

    Arguments
    ---------
    imported : Imported
        Its quantizer may have changed since.
    folder : str or Path
        Created if missing. Gets config.json and model.safetensors; and
        original.safetensors, if some tensors are kept in their first form.

    Example
    -------
    >>> import tempfile, torch
    >>> from sb_espnet_vq.tokenizer.imports import import_quantizer
    >>> imported = import_quantizer({"centres": torch.randn(4, 2)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_quantizer(imported, folder)
    ...     load_quantizer(folder).codebook_size
    4
    """
    origin = imported.origin
    config = {
        "format": FORMAT,
        "quantizer": imported.name,
        "options": imported.options,
        "origin": {
            "layout": origin.layout,
            "prefix": origin.prefix,
            "given": origin.given,
            "originals": sorted(origin.originals),
        },
    }
    with hub_folder.staged(folder) as aside:
        write_text(aside / CONFIG, json.dumps(config, indent=2) + "\n")
        hub_folder.write_weights(imported.quantizer, aside)
        if origin.originals:
            tensor_file.save(origin.originals, aside / ORIGINALS)


def save_new(
    folder: str | Path, name: str, options: dict[str, Any], quantizer: Quantizer
) -> None:
    """Save a quantizer that has no other form.

    Arguments
    ---------
    folder : str or Path
        Created if missing. Gets config.json and model.safetensors.
    name : str
        The registered name of the quantizer.
    options : dict
        With which it was built.
    quantizer : Quantizer

    Example
    -------
    >>> import tempfile
    >>> options = {"dim": 4, "codebook_size": 8}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_new(folder, "vq", options, build("vq", **options))
    ...     load_quantizer(folder).codebook_sizes
    (8,)
    """
    config = {"format": FORMAT, "quantizer": name, "options": options}
    with hub_folder.staged(folder) as aside:
        write_text(aside / CONFIG, json.dumps(config, indent=2) + "\n")
        hub_folder.write_weights(quantizer, aside)


def load_quantizer(folder: str | Path) -> Quantizer:
    """Load the quantizer of ``sbvq import`` or ``sbvq fit``, in eval mode.

    Arguments
    ---------
    folder : str or Path

    Returns
    -------
    Quantizer

    Raises
    ------
    CheckpointError
        If the folder has no such quantizer, or a file is damaged.
    ConfigError
        If its quantizer is not a registered one.
    """
    config = _config(Path(folder))
    if "origin" in config:
        return load_imported(folder).quantizer
    return _quantizer(Path(folder), config)


def load_imported(folder: str | Path) -> Imported:
    """Load what `save_quantizer` saved.

    Arguments
    ---------
    folder : str or Path

    Returns
    -------
    Imported

    Raises
    ------
    CheckpointError, ConfigError
        As `load_quantizer`.
    """
    folder = Path(folder)
    config = _config(folder)
    if "origin" not in config:
        raise ConfigError(f"{folder}: it was not imported, but is a quantizer of ours")
    quantizer = _quantizer(folder, config)
    try:
        origin = dict(config["origin"])
        layout, prefix = str(origin["layout"]), str(origin["prefix"])
        given, kept = dict(origin["given"]), list(origin["originals"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: not that of an imported quantizer ({error!r})"
        ) from error
    if layout not in LAYOUTS:
        raise ConfigError(f"{folder / CONFIG}: {layout!r} is no layout of this version")
    originals = tensor_file.load(folder / ORIGINALS) if kept else {}
    if set(originals) != set(kept):
        raise CheckpointError(f"{folder / ORIGINALS}: not the tensors of {CONFIG}")
    origin_ = Origin(layout, prefix, given, originals)
    return Imported(quantizer, config["quantizer"], config["options"], origin_)


def holds_quantizer(folder: str | Path) -> bool:
    """Return whether a folder is one of `save_quantizer` or `save_new`.

    Arguments
    ---------
    folder : str or Path

    Returns
    -------
    bool
    """
    try:
        return "quantizer" in _config(Path(folder))
    except CheckpointError:
        return False


def _quantizer(folder: Path, config: dict[str, Any]) -> Quantizer:
    try:
        name, options = str(config["quantizer"]), dict(config["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: not that of a quantizer ({error!r})"
        ) from error
    # The path of any other class would be imported.
    if name not in {*list_quantizers(), GUMBEL}:
        raise ConfigError(f"{folder / CONFIG}: {name!r} is no registered quantizer")
    quantizer = build(name, **trees.build(options)).eval()
    state = tensor_file.load(folder / hub_folder.WEIGHTS)
    hub_folder.load_state(quantizer, state, str(folder))
    return quantizer


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG}: cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / CONFIG}: not a configuration")
    version = config.get("format", FORMAT)
    if version != FORMAT:
        raise CheckpointError(
            f"{folder / CONFIG}: format {version}, but this version of sb_espnet_vq "
            f"reads format {FORMAT}; install a newer version"
        )
    return config
