"""Labelled clips, and what the two trainings take from one YAML."""

import json
import logging
from pathlib import Path

import torch

from sb_espnet_vq.errors import CheckpointError, ConfigError, CorpusError
from sb_espnet_vq.training.checkpoints import WholeCheckpointer
from sb_espnet_vq.training.data import PARTS, read_datasets
from sb_espnet_vq.training.start import load_hparams
from sb_espnet_vq.utils.files import write_text

logger = logging.getLogger(__name__)

TRAININGS = ("classifier", "piq")
CLASSES = "classes.json"
SETTINGS = "settings.json"
# What both trainings must agree on: what a clip sounds like to the classifier, and
# which clips it has been trained on.
COMMON = (
    *("seed", "data_folder", "manifest", "held_out", "train_folds", "test_folds"),
    *("sample_rate", "n_fft", "win_length", "hop_length", "frames", "dim", "n_classes"),
)


def check_settings(hparams):
    """Refuse now what would fail hours later, or fail in words of another place.

    Arguments
    ---------
    hparams : dict
        From the YAML.
    """
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


def note_settings(hparams):
    """Note what the classifier is trained with, for `check_settings` of later runs.

    Arguments
    ---------
    hparams : dict
        From the YAML.
    """
    text = json.dumps(_common(hparams), indent=1) + "\n"
    write_text(_settings_path(hparams), text)


def _settings_path(hparams):
    return Path(hparams["classifier_training"]["training_folder"], SETTINGS)


def _common(hparams):
    # As JSON reads it back: a path is a text, a tuple a list.
    return json.loads(json.dumps({n: hparams[n] for n in COMMON}, default=str))


def section(hparams, training):
    """Return the hparams of one of the two trainings.

    Arguments
    ---------
    hparams : dict
        From the YAML.
    training : str
        `classifier` or `piq`.

    Returns
    -------
    dict
        Those of the section over the common ones.
    """
    return hparams | hparams[f"{training}_training"]


def read_clips(hparams):
    """Read the three parts, and number the classes.

    Arguments
    ---------
    hparams : dict
        From the YAML; gets `classes`, their names, and `label_of`, the number of
        each clip's class.

    Returns
    -------
    dict[str, DynamicItemDataset]
        train, valid and test.

    Raises
    ------
    CorpusError
        A clip has no label, or there are more or fewer classes than n_classes.
    """
    datasets = read_datasets(hparams)
    labels = {}
    for part in PARTS:
        data = datasets[part].data
        labels |= {name: data[name]["label"] for name in datasets[part].data_ids}
    unknown = [name for name, label in labels.items() if not label]
    if unknown:
        raise CorpusError(
            f"{len(unknown)} of {len(labels)} clips have no label, the first is "
            f"{unknown[0]}; a classifier needs a manifest with a column label"
        )
    classes = sorted(set(labels.values()))
    if len(classes) != hparams["n_classes"]:
        raise CorpusError(
            f"the corpus has {len(classes)} classes ({', '.join(classes[:5])}, ...), "
            f"n_classes is {hparams['n_classes']}; give --n_classes {len(classes)}"
        )
    hparams["classes"] = classes
    hparams["label_of"] = {n: classes.index(label) for n, label in labels.items()}
    write_text(Path(hparams["output_folder"], CLASSES), json.dumps(classes) + "\n")
    return datasets


def labels_of(batch, hparams):
    """Return the class of each clip.

    Arguments
    ---------
    batch : SpeechBatch
        Clips.
    hparams : dict
        After `read_clips`.

    Returns
    -------
    torch.Tensor
        (B,) int64.
    """
    return torch.tensor([hparams["label_of"][name] for name in batch.ids])


def freeze(module):
    """Let nothing of a module change any more, its batch-norm statistics neither.

    Arguments
    ---------
    module : torch.nn.Module
        Put into eval mode.

    Returns
    -------
    torch.nn.Module
        The same.
    """
    return module.eval().requires_grad_(False)


def load_classifier(hparams):
    """Put the weights of the best classifier into that of the hparams, and freeze it.

    Arguments
    ---------
    hparams : dict
        From the YAML.

    Raises
    ------
    CheckpointError
        It has not been trained yet, or was trained with other settings.
    """
    checkpointer = hparams["classifier_training"]["checkpointer"]
    _load(checkpointer.checkpoints_dir, {"classifier": hparams["classifier"]})
    freeze(hparams["classifier"])


def load_run(folder):
    """Build what a run trained, with the weights of its best checkpoint.

    Arguments
    ---------
    folder : str or Path
        The run's output folder.

    Returns
    -------
    hparams : dict
        Of the run, with `classifier`, `interpreter` (on the CPU, frozen) and
        `classes`.

    Raises
    ------
    CheckpointError
        If there is no such run.
    """
    folder = Path(folder)
    yaml, classes = folder / "hyperparams.yaml", folder / CLASSES
    if not yaml.is_file() or not classes.is_file():
        raise CheckpointError(
            f"{folder}: no run of this recipe; train one with `sbvq run piq`, or name "
            "its folder with --run"
        )
    # Their own checkpointers would make the folders that the run was given at the time.
    nowhere = {f"{name}_training": {"checkpointer": None} for name in TRAININGS}
    hparams = load_hparams(str(yaml), nowhere)
    names = ("classifier", "interpreter")
    _load(folder / "piq" / "save", {name: hparams[name] for name in names})
    for name in names:
        freeze(hparams[name])
    hparams["classes"] = json.loads(classes.read_text(encoding="utf-8"))
    return hparams


def _load(save, modules):
    missing = CheckpointError(
        f"{save}: no {' or '.join(modules)} has been trained here yet; first run "
        f"{'train_classifier.py' if len(modules) == 1 else 'train_piq.py'} with the "
        "same arguments"
    )
    if not Path(save).is_dir():
        raise missing
    try:
        found = WholeCheckpointer(save, modules).recover_if_possible(min_key="loss")
    except RuntimeError as error:
        raise CheckpointError(
            f"{save}: the checkpoint there is that of another model; give another "
            f"output_folder, or the settings that it was trained with. {error}"
        ) from error
    if found is None:
        raise missing
