"""A quantizer without its networks, saved as a folder: config.json and safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sb_espnet_vq import registry
from sb_espnet_vq.errors import CheckpointError
from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.tokenizer import hub_folder

_FORMAT, _CONFIG = 1, "config.json"


def save_quantizer(
    folder: str | Path, name: str, options: dict[str, Any], quantizer: Quantizer
) -> None:
    """Save a quantizer; nothing is pickled.

    Arguments
    ---------
    folder : str or Path
        Created if missing; gets config.json and model.safetensors.
    name : str
        The registered name of the quantizer.
    options : dict
        With which it was built.
    quantizer : Quantizer
    """
    config = {"format": _FORMAT, "quantizer": name, "options": options}
    with hub_folder.staged(folder) as aside:
        text = json.dumps(config, indent=1) + "\n"
        (aside / _CONFIG).write_text(text, encoding="utf-8")
        hub_folder.write_weights(quantizer, aside)


def load_quantizer(folder: str | Path) -> Quantizer:
    """Load what `save_quantizer` has saved.

    Arguments
    ---------
    folder : str or Path

    Returns
    -------
    Quantizer
        On the CPU, in eval mode.

    Raises
    ------
    CheckpointError
        If a file is missing, unreadable or that of another version or quantizer.

    Example
    -------
    >>> import tempfile
    >>> from sb_espnet_vq import build
    >>> options = {"dim": 4, "codebook_size": 8}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_quantizer(folder, "vq", options, build("vq", **options))
    ...     load_quantizer(folder).codebook_sizes
    (8,)
    """
    file = Path(folder, _CONFIG)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        if config["format"] != _FORMAT:
            raise ValueError(f"format {config['format']}, not {_FORMAT}")
        quantizer = registry.build(config["quantizer"], **config["options"])
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file}: no configuration of a quantizer ({error!r})"
        ) from error
    state = hub_folder.read_weights(str(folder), {})
    hub_folder.load_state(quantizer, state, str(folder))
    return quantizer.eval()
