"""Files of safetensors, with errors of this package."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from sb_espnet_vq.errors import CheckpointError, ConfigError


def save(state: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors by name.

    Arguments
    ---------
    state : Mapping
        On the CPU, none sharing memory with another.
    file : Path

    Raises
    ------
    ConfigError
        If safetensors is not installed.
    """
    tensors = {key: value.contiguous() for key, value in state.items()}
    _safetensors().save_file(tensors, file, {"format": "pt"})


def load(file: Path) -> dict[str, Tensor]:
    """Read tensors by name.

    Arguments
    ---------
    file : Path

    Returns
    -------
    dict
        On the CPU.

    Raises
    ------
    CheckpointError
        If it is no complete file of safetensors.
    ConfigError
        If safetensors is not installed.
    """
    package = _safetensors()
    try:
        return package.load_file(file)
    except Exception as error:
        # The package's own error derives from no other.
        raise CheckpointError(f"{file}: cannot be read ({error})") from error


def _safetensors() -> Any:
    try:
        return import_module("safetensors.torch")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "this needs safetensors, which is not installed: "
            "pip install 'sb_espnet_vq[tokenizer]'"
        ) from error
