"""A trained module, loaded from the output folder of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.checkpoints import Checkpoint

from sb_espnet_vq.errors import CheckpointError
from sb_espnet_vq.training.checkpoints import WholeCheckpointer
from sb_espnet_vq.training.start import load_hparams

_YAML = "hyperparams.yaml"


def load_trained(folder: str | Path, name: str, min_key: str = "loss") -> Any:
    """Build a module that a run trained, with the weights of its best checkpoint.

    The run's hyperparams.yaml is loaded, which builds whatever it names: use it with
    runs of your own.

    Arguments
    ---------
    folder : str or Path
        The run's output folder.
    name : str
        The module's key in the YAML, under which the checkpointer saved it too.
    min_key : str
        The metric that is least in the best checkpoint.

    Returns
    -------
    torch.nn.Module
        On the CPU, in eval mode.

    Raises
    ------
    CheckpointError
        If there is no such run or checkpoint, or no such module in it.
    """
    best = best_checkpoint(folder, min_key)
    # The checkpointer of the YAML would create the output folder given for training.
    hparams = load_hparams(str(Path(folder, _YAML)), {"checkpointer": None})
    saved = sorted(
        key for key in best.paramfiles if isinstance(hparams.get(key), torch.nn.Module)
    )
    if name not in saved:
        raise CheckpointError(
            f"{best.path}: no module {name!r} was saved; there are {', '.join(saved)}"
        )
    module = hparams[name]
    checkpointer = WholeCheckpointer(best.path.parent, {name: module})
    checkpointer.load_checkpoint(best)
    return module.eval()


def best_checkpoint(folder: str | Path, min_key: str) -> Checkpoint:
    """Find the best checkpoint of a run.

    Arguments
    ---------
    folder : str or Path
        The run's output folder.
    min_key : str
        The metric that is least in the best checkpoint.

    Returns
    -------
    speechbrain.utils.checkpoints.Checkpoint

    Raises
    ------
    CheckpointError
        If there is no such run or checkpoint.
    """
    save = Path(folder, "save")
    if not Path(folder, _YAML).is_file() or not save.is_dir():
        raise CheckpointError(f"{folder}: no run of a recipe; it has {_YAML}, save")
    best = WholeCheckpointer(save).find_checkpoint(min_key=min_key)
    if best is None:
        raise CheckpointError(f"{save}: no checkpoint with a metric {min_key!r}")
    return best
