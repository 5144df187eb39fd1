"""Files of tensors from elsewhere, read without running code in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sb_espnet_vq.errors import CheckpointError
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
    read = _READERS.get(path.suffix.lower(), _read_torch)
    try:
        return read(path)
    except Exception as error:
        # torch, numpy and safetensors each have errors of their own for a bad file.
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


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


_READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": _read_safetensors,
    ".npy": _read_npy,
}
