"""A model that is saved as config.json and model.safetensors, without the run."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from sb_espnet_vq.errors import CheckpointError, ConfigError
from sb_espnet_vq.tokenizer import hub_folder, trees
from sb_espnet_vq.tokenizer.kinds import MODELS

FORMAT = 1


class HubModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="sb_espnet_vq",
    tags=["audio", "vector-quantization"],
):
    """Builds a `TokenModel` from a configuration, saves it and loads it again.

    Arguments
    ---------
    config : dict
        ``format`` (1), ``kind`` (a key of `kinds.MODELS`) and ``options``, the tree of
        the model's arguments.

    Raises
    ------
    ConfigError
        If the configuration is not one of this version, or names a class that no
        tokenizer consists of.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        _check(config)
        self.config = config
        model = MODELS[config["kind"]]
        self.model = model(**trees.build(config["options"])).eval()
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> HubModel:
        """Stay in eval mode: a module that contains a tokenizer may be trained."""
        return super().train(False)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of configuration and weights: 64 hexadecimal digits."""
        return hub_folder.fingerprint(self.config, self.model)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Save config.json, model.safetensors and a model card into a folder.

        Each file is replaced atomically, so a full disk leaves a usable folder. A model
        card that is there stays.

        Arguments
        ---------
        save_directory : str or Path
            Created if missing.
        **options
            As in huggingface_hub: ``push_to_hub``, ``repo_id``, ...

        Returns
        -------
        str, optional
            Address of the commit, if it was pushed.
        """
        with hub_folder.staged(save_directory) as folder:
            card = Path(save_directory, "README.md")
            if card.is_file():
                shutil.copy(card, folder)
            if options.get("push_to_hub"):
                options.setdefault("repo_id", Path(save_directory).name)
            return super().save_pretrained(folder, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        hub_folder.write_weights(self.model, save_directory)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, config=None, **options: Any):
        if config is None:
            raise CheckpointError(
                f"{model_id}: no tokenizer, since it has no config.json; save one with "
                "AudioTokenizer.from_run(RUN).save_pretrained(DIR)"
            )
        tokenizer = cls(config)
        state = hub_folder.read_weights(model_id, options)
        hub_folder.load_state(tokenizer.model, state, model_id)
        return tokenizer.to(options.get("map_location", "cpu"))


def _check(config: Any) -> None:
    if not isinstance(config, dict) or not {"format", "kind", "options"} <= set(config):
        raise ConfigError(
            "not the configuration of a tokenizer: it has format, kind and options"
        )
    if config["format"] != FORMAT:
        raise ConfigError(
            f"the configuration has format {config['format']}, but this version of "
            f"sb_espnet_vq reads format {FORMAT}; install a newer version"
        )
    if config["kind"] not in MODELS:
        raise ConfigError(
            f"kind must be one of {', '.join(MODELS)}, got {config['kind']!r}"
        )
