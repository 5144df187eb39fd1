"""Files of tensors from elsewhere, read without running code in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sb_espnet_vq.errors import CheckpointError
from sb_espnet_vq.tokenizer import tensor_file
from sb_espnet_vq.tokenizer.layouts.tables import CENTRES


def read_state(path: str | Path) -> Any:
    """Read the tensors of a file.

    Arguments
    ---------
    path : str or Path
        ``.safetensors``; ``.npy`` with the centres of k-means; otherwise what
        ``torch.save`` wrote.

    Returns
    -------
    object
        A state dict, or what else ``torch.save`` can hold without code.

    Raises
    ------
    CheckpointError
        If the file does not exist, is truncated, or would run code.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        return tensor_file.load(path)
    read = _read_npy if path.suffix.lower() == ".npy" else _read_torch
    try:
        return read(path)
    except Exception as error:
        # torch and numpy have errors of many kinds for a bad file.
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


def _read_npy(path: Path) -> Any:
    import numpy
    import torch

    table = numpy.load(path, allow_pickle=False)
    if table.ndim != 2 or table.dtype.kind != "f":
        raise ValueError(f"not centres (V, D) in float: {table.shape} {table.dtype}")
    return {CENTRES: torch.from_numpy(table)}


def _read_torch(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)
