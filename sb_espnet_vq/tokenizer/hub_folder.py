"""The files of a saved tokenizer: safetensors, written atomically, loaded strictly."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import CheckpointError
from sb_espnet_vq.tokenizer import tensor_file

WEIGHTS = "model.safetensors"


@contextlib.contextmanager
def staged(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder, whose files replace those in ``folder`` on success.

    Arguments
    ---------
    folder : str or Path
        Created if missing. Its other files stay.

    Yields
    ------
    Path
    """
    folder = Path(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as aside:
            yield Path(aside)
            for file in sorted(Path(aside).iterdir()):
                os.replace(file, folder / file.name)
    except BaseException:
        if is_new:
            # It stays if it has files by now.
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def write_weights(module: nn.Module, folder: Path) -> None:
    """Write the state of a module as safetensors.

    Arguments
    ---------
    module : torch.nn.Module
    folder : Path
        Gets the file model.safetensors.
    """
    # Copies, since the format refuses tensors that share memory.
    state = {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}
    tensor_file.save(state, folder / WEIGHTS)


def read_weights(model_id: str, options: dict[str, Any]) -> dict[str, Tensor]:
    """Read the weights of a folder or of a repository of the hub.

    Arguments
    ---------
    model_id : str
        The folder, or the id of the repository.
    options : dict
        ``revision``, ``cache_dir``, ``force_download``, ``local_files_only`` and
        ``token``, as huggingface_hub passes them.

    Returns
    -------
    dict
        Of tensors, on the CPU.

    Raises
    ------
    CheckpointError
        If the file is missing, or no complete file of safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if Path(model_id).is_dir():
        file = Path(model_id, WEIGHTS)
    else:
        from huggingface_hub import hf_hub_download

        names = "revision cache_dir force_download local_files_only token".split()
        passed = {name: options[name] for name in names if name in options}
        file = Path(hf_hub_download(repo_id=model_id, filename=WEIGHTS, **passed))
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from error


def fingerprint(config: dict[str, Any], module: nn.Module) -> str:
    """Return a hash of a model's configuration and weights.

    Arguments
    ---------
    config : dict
        As in config.json.
    module : torch.nn.Module

    Returns
    -------
    str
        64 hexadecimal digits; the same on every device.

    Example
    -------
    >>> len(fingerprint({}, nn.Linear(1, 1)))
    64
    """
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        values = tensor.detach().cpu().contiguous()
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_state(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state strictly.

    Arguments
    ---------
    module : torch.nn.Module
    state : dict
        Of tensors.
    source : str
        Where the state comes from, for errors.

    Raises
    ------
    CheckpointError
        If it is the state of another model.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"{source}: the weights are those of another model than the configuration "
            f"describes. {error}"
        ) from error
