"""Loading of a trained module from the output folder of a recipe."""

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

    Loading the run's hyperparams.yaml executes the code that it names: load only runs
    that you trust.

    Arguments
    ---------
    folder : str or Path
        The run's output folder.
    name : str
        Key of the module in the YAML and in the checkpointer.
    min_key : str
        Metric whose lowest value identifies the best checkpoint.

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
    hparams = read_run(folder)
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


def best_checkpoint(
    folder: str | Path, min_key: str = "loss", save: str = "save"
) -> Checkpoint:
    """Find the best checkpoint of a run.

    Arguments
    ---------
    folder, min_key
        As in `load_trained`.
    save : str
        Folder of the checkpoints below that of the run.

    Returns
    -------
    speechbrain.utils.checkpoints.Checkpoint

    Raises
    ------
    CheckpointError
        If there is no such run or checkpoint.
    """
    place = Path(folder, save)
    if not Path(folder, _YAML).is_file() or not place.is_dir():
        raise CheckpointError(f"{folder}: no run of a recipe; it has {_YAML}, {save}")
    best = WholeCheckpointer(place).find_checkpoint(min_key=min_key)
    if best is None:
        raise CheckpointError(f"{place}: no checkpoint with a metric {min_key!r}")
    return best


def read_run(folder: str | Path) -> dict[str, Any]:
    """Read the hyperparameters of a run, without a checkpointer.

    Arguments
    ---------
    folder : str or Path
        The run's output folder.

    Returns
    -------
    dict
        From its hyperparams.yaml.
    """
    # The checkpointer of the YAML would create the output folder given for training.
    return load_hparams(str(Path(folder, _YAML)), {"checkpointer": None})
