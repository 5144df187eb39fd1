"""Settings and models shared by the two trainings (classifier, PIQ) of a run."""

import json
import sys
from pathlib import Path
from typing import Any

import networks
from data import CLASSES
from torch import nn

from sb_espnet_vq.errors import CheckpointError, ConfigError
from sb_espnet_vq.training.checkpoints import WholeCheckpointer
from sb_espnet_vq.training.start import load_hparams
from sb_espnet_vq.utils.files import write_text

TRAININGS = ("classifier", "piq")
SETTINGS = "settings.json"
# Settings that must be equal in both trainings, since they determine the input of the
# classifier and its training clips.
COMMON = (
    *("seed", "data_folder", "manifest", "held_out", "train_folds", "test_folds"),
    *("sample_rate", "n_fft", "win_length", "hop_length", "frames", "dim", "n_classes"),
)

# Runs and YAML files of version 0.1 refer to the networks by this module name.
sys.modules.setdefault("piq_models", networks)


def check_settings(hparams: dict[str, Any]) -> None:
    """Raise ConfigError if settings differ from those of the trained classifier."""
    path = _settings_path(hparams)
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        now = _common(hparams)
        other = [n for n in COMMON if n in before and before[n] != now[n]]
        if other:
            name = other[0]
            raise ConfigError(
                f"{name} is {now[name]!r}, but the classifier in {path.parent} was "
                f"trained with {before[name]!r}; give the same arguments as there, or "
                "another output_folder"
            )


def note_settings(hparams: dict[str, Any]) -> None:
    """Save the settings of the classifier for `check_settings` of later runs."""
    text = json.dumps(_common(hparams), indent=1) + "\n"
    write_text(_settings_path(hparams), text)


def _settings_path(hparams: dict[str, Any]) -> Path:
    return Path(hparams["classifier_training"]["training_folder"], SETTINGS)


def _common(hparams: dict[str, Any]) -> dict[str, Any]:
    # As read back from JSON: paths are strings, tuples are lists.
    return json.loads(json.dumps({n: hparams[n] for n in COMMON}, default=str))


def section(hparams: dict[str, Any], training: str) -> dict[str, Any]:
    """Return the hparams of one of `TRAININGS`: its section and the common ones."""
    return hparams | hparams[f"{training}_training"]


def freeze(module: nn.Module) -> nn.Module:
    """Put a module into eval mode, without gradients for its parameters."""
    return module.eval().requires_grad_(False)


def load_classifier(hparams: dict[str, Any]) -> None:
    """Load the best checkpoint into the classifier of the hparams, and freeze it.

    Raises
    ------
    CheckpointError
        If the classifier has not been trained yet, or with other settings.
    """
    checkpointer = hparams["classifier_training"]["checkpointer"]
    _load(checkpointer.checkpoints_dir, {"classifier": hparams["classifier"]})
    freeze(hparams["classifier"])


def load_run(folder: str | Path) -> dict[str, Any]:
    """Build the trained models of a run, with the weights of its best checkpoint.

    Returns the hparams of the run, with `classes` and with `classifier` and
    `interpreter` on the CPU, frozen.

    Raises
    ------
    CheckpointError
        If there is no such run.
    """
    folder = Path(folder)
    yaml, classes = folder / "hyperparams.yaml", folder / CLASSES
    if not yaml.is_file() or not classes.is_file():
        raise CheckpointError(
            f"{folder}: no run of this recipe; train one with `sbvq run piq`, or give "
            "its folder with --run"
        )
    # The checkpointers of the YAML would create the output folder given for training.
    nowhere = {f"{name}_training": {"checkpointer": None} for name in TRAININGS}
    hparams = load_hparams(str(yaml), nowhere)
    names = ("classifier", "interpreter")
    _load(folder / "piq" / "save", {name: hparams[name] for name in names})
    for name in names:
        freeze(hparams[name])
    hparams["classes"] = json.loads(classes.read_text(encoding="utf-8"))
    return hparams


def _load(save: str | Path, modules: dict[str, nn.Module]) -> None:
    missing = CheckpointError(
        f"{save}: no {' or '.join(modules)} has been trained here yet; first run "
        f"{'train_classifier.py' if len(modules) == 1 else 'train.py'} with the "
        "same arguments"
    )
    if not Path(save).is_dir():
        raise missing
    try:
        best = WholeCheckpointer(save, modules).recover_if_possible(min_key="loss")
    except RuntimeError as error:
        raise CheckpointError(
            f"{save}: the checkpoint in this folder belongs to another model; give "
            f"another output_folder, or the settings of that training. {error}"
        ) from error
    if best is None:
        raise missing
