"""The output folder of a SpeechBrain recipe, read without building what it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML, YAMLError
from torch import Tensor

from sb_espnet_vq.errors import CheckpointError
from sb_espnet_vq.tokenizer.trees import describe

YAML_NAME, SAVE = "hyperparams.yaml", "save"


class RecipeRun:
    """A finished or running training of a recipe of this package.

    Arguments
    ---------
    folder : Path
        The run's output folder.
    save : str
        Folder of the checkpoints below it.

    Raises
    ------
    CheckpointError
        If its YAML file cannot be read.
    """

    def __init__(self, folder: Path, save: str = SAVE):
        self.folder, self.save = folder, save
        file = folder / YAML_NAME
        try:
            self.yaml = YAML().load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, YAMLError) as error:
            raise CheckpointError(f"{file}: not readable as YAML ({error})") from error
        if not isinstance(self.yaml, dict):
            raise CheckpointError(f"{file}: holds no hyperparameters")

    def __contains__(self, key: str) -> bool:
        return key in self.yaml

    def value(self, key: str) -> Any:
        """Return a hyperparameter."""
        return describe(self._node(key), key)

    def describe(self, key: str) -> Any:
        """Return the tree of a network (see `trees`)."""
        return describe(self._node(key), f"{self.folder / YAML_NAME}: {key}")

    def load(self, metric: str, name: str) -> dict[str, Any]:
        """Load a file of the best checkpoint; nothing is unpickled but tensors."""
        from sb_espnet_vq.training.trained import best_checkpoint

        file = best_checkpoint(self.folder, metric, self.save).paramfiles.get(name)
        if file is None:
            raise CheckpointError(f"{self.folder}: its checkpoint has no {name}.ckpt")
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(f"{file}: cannot be read ({error})") from error

    def states(self, metric: str, **prefixes: str) -> dict[str, Tensor]:
        """Load the states of modules, with a prefix for the keys of each."""
        return {
            prefix + key: value
            for name, prefix in prefixes.items()
            for key, value in self.load(metric, name).items()
        }

    def _node(self, key: str) -> Any:
        if key not in self.yaml:
            raise CheckpointError(
                f"{self.folder / YAML_NAME}: no {key!r}, which the recipe has"
            )
        return self.yaml[key]
