"""Start of a recipe that evaluates a trained run and does not train."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import speechbrain as sb
from speechbrain.utils.distributed import run_on_main

from sb_espnet_vq.corpora import audio_path, copy_manifest, read_rows
from sb_espnet_vq.corpora.other_speech import find_speech, write_speech
from sb_espnet_vq.errors import CheckpointError, ConfigError, CorpusError
from sb_espnet_vq.training.checkpoints import WholeCheckpointer
from sb_espnet_vq.training.command_line import read_command_line
from sb_espnet_vq.training.declared import EVALUATION
from sb_espnet_vq.training.origin import data_root, keys_of_recipe
from sb_espnet_vq.training.settings import check_values, load_hparams, read_yaml
from sb_espnet_vq.utils.run_lock import lock_folder

Hparams = dict[str, Any]

OPTION = "--evaluate"
# Of the test speech, instead of that of the run.
_SPEECH = ("data_folder", "manifest")
_OUTPUT = "output_folder"


def begin_evaluation(
    arguments: list[str], check: Callable[[Hparams], None]
) -> tuple[Hparams, dict[str, Any]]:
    """Do as `begin` for a run that is evaluated, in a folder of its own.

    Arguments
    ---------
    arguments : list[str]
        The run's output folder, then options: `data_folder` or `manifest` of other
        test speech, `output_folder` of the evaluation, and keys of `EVALUATION`.
    check : callable
        As in `begin`.

    Returns
    -------
    hparams : dict
        Those of the run. `evaluated` is added: the `run`, the `speech`, how many of its
        utterances the run was trained on (`seen`), and `missing`, a file of training
        speech that does not exist any more, or None.
    run_opts : dict
        SpeechBrain's run options.

    Raises
    ------
    CheckpointError
        If there is no such run, or no checkpoint in it.
    ConfigError
        As in `begin`, if a key cannot be changed, or the run is not one of the recipe.
    CorpusError
        If there is no test speech.
    """
    run, yaml = _find_run(arguments)
    _, run_opts, given = read_command_line([str(yaml), *arguments[1:]])
    sb.utils.distributed.ddp_init_group(run_opts)
    keys = read_yaml(yaml)
    _refuse_changes(run, keys, given)
    newer = (EVALUATION & set(given)) - set(keys)
    newer = newer and newer & keys_of_recipe(check)
    added = {key: given.pop(key) for key in newer}
    check_values(added)
    sources = {name: given.pop(name, None) for name in _SPEECH}
    speech = {name: source for name, source in sources.items() if source}
    output = given.pop(_OUTPUT, None)
    folder = Path(output or run / "eval" / _name(speech))
    if Path(folder, "save").exists():
        raise ConfigError(f"{folder}: this is the folder of a run; choose another one")
    if output is None:
        _refuse_other_speech(folder, _described(speech))
    if speech and "compare_with" in keys:
        # Other runs were tested on the speech of the run.
        given = {"compare_with": None} | given
    overrides = given | {
        _OUTPUT: str(folder),
        "checkpointer": {"checkpoints_dir": str(run / "save")},
    }
    hparams = load_hparams(str(yaml), overrides, run_opts.keys()) | added
    try:
        check(hparams)
    except KeyError as key:
        raise ConfigError(
            f"{run}: not a run of this recipe: its {yaml.name} has no key {key}"
        ) from None
    root = data_root(run, hparams)
    found = find_speech(**speech) if speech else None
    missing = {part: _missing(run / f"{part}.csv", root) for part in ("train", "test")}
    if found is None and missing["test"]:
        raise CorpusError(
            f"{missing['test']}: this test utterance of {run} does not exist any more; "
            f"if the corpus has moved, give --manifest {run / 'test.csv'} and its new "
            "place as --data_folder"
        )
    run_on_main(lock_folder, args=[folder])
    sb.create_experiment_directory(
        experiment_directory=str(folder),
        hyperparams_to_save=str(yaml),
        overrides=overrides,
    )
    run_on_main(_write_manifests, args=[run, folder, root, found, hparams])
    hparams["evaluated"] = {
        "run": str(run),
        "speech": _described(speech),
        "seen": _seen(folder),
        "missing": missing["train"],
    }
    return hparams, run_opts


def missing_training_speech(hparams: Mapping[str, Any]) -> str | None:
    """Return why the training speech of an evaluated run cannot be read.

    Arguments
    ---------
    hparams : dict
        From `begin`.

    Returns
    -------
    str | None
        None if it can be read.
    """
    missing = hparams.get("evaluated", {}).get("missing")
    if missing is None:
        return None
    return f"it needs the run's training speech, of which {missing} does not exist"


def _find_run(arguments: list[str]) -> tuple[Path, Path]:
    """Return the folder of the run, and its YAML."""
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError(f"{OPTION} needs the output folder of a run")
    run = Path(arguments[0])
    yaml, save = run / "hyperparams.yaml", run / "save"
    if not yaml.is_file():
        raise CheckpointError(f"{run}: no run of a recipe; it has {yaml.name}")
    if "checkpointer" not in read_yaml(yaml):
        raise ConfigError(
            f"{run}: a run of several trainings is not evaluated alone; start its "
            "recipe again with the same arguments, which evaluates what is trained"
        )
    # Those between epochs have no metrics.
    finished = save.is_dir() and WholeCheckpointer(save).find_checkpoint(
        ckpt_predicate=lambda checkpoint: "epoch" in checkpoint.meta
    )
    if not finished:
        raise CheckpointError(
            f"{save}: no checkpoint at the end of an epoch; finish the training first"
        )
    return run, yaml


def _refuse_changes(run: Path, yaml: Mapping[str, Any], given: Hparams) -> None:
    """Raise ConfigError for a key that determines what was trained."""
    free = {*EVALUATION, *_SPEECH, _OUTPUT}
    for key in given:
        if key in yaml and key not in free:
            raise ConfigError(
                f"--{key}: {run} was trained with {yaml[key]}, which an evaluation "
                f"cannot change; it can change {', '.join(sorted(free & set(yaml)))}"
            )


def _described(speech: Mapping[str, Any]) -> str:
    """Describe test speech in the results."""
    places = [str(Path(place).resolve()) for place in speech.values()]
    return ", ".join(places) or "the run's test speech"


def _refuse_other_speech(folder: Path, speech: str) -> None:
    """Raise ConfigError if a folder has the results of other test speech."""
    file = folder / "results.json"
    if not file.is_file():
        return
    before = json.loads(file.read_text(encoding="utf-8"))["evaluated"]["speech"]
    if before != speech:
        raise ConfigError(
            f"{folder} has the results for {before}; give --out another folder for "
            f"those of {speech}"
        )


def _name(speech: Mapping[str, Any]) -> str:
    """Name an evaluation after its test speech."""
    if "manifest" in speech:
        return Path(speech["manifest"]).stem
    return Path(speech["data_folder"]).resolve().name if speech else "test"


def _missing(manifest: Path, root: Path) -> str | None:
    """Return the first file of a manifest that does not exist."""
    files = (audio_path(row["wav"], root) for row in read_rows(manifest))
    return next((str(file) for file in files if not file.is_file()), None)


def _write_manifests(
    run: Path, folder: Path, root: Path, found: Any, hparams: Hparams
) -> None:
    """Write train.csv, valid.csv and test.csv, with absolute paths."""
    own = ("train", "valid", "test") if found is None else ("train", "valid")
    for part in own:
        copy_manifest(run / f"{part}.csv", folder / f"{part}.csv", root)
    if found is not None:
        utterances, problems = found
        write_speech(folder, utterances, problems, hparams["sample_rate"])


def _seen(folder: Path) -> int:
    """Count the test utterances that are training speech too."""
    train, test = (
        {row["wav"] for row in read_rows(folder / f"{part}.csv")}
        for part in ("train", "test")
    )
    return len(train & test)
