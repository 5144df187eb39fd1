"""Record of where a run came from: its recipe, and the folder of its speech."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sb_espnet_vq.corpora import corpus_root
from sb_espnet_vq.training.data import source_of
from sb_espnet_vq.training.settings import read_yaml
from sb_espnet_vq.utils.files import write_text
from sb_espnet_vq.utils.run_files import ORIGIN


def write_origin(hparams: dict[str, Any], of_recipe: Callable[..., Any]) -> None:
    """Write the record into the output folder.

    Arguments
    ---------
    hparams : dict
        From the YAML.
    of_recipe : callable
        A function that is defined in the recipe's folder.
    """
    origin = {
        "folder": str(_folder(of_recipe)),
        "data_root": str(corpus_root(**source_of(hparams))),
    }
    text = json.dumps(origin, indent=1) + "\n"
    write_text(Path(hparams["output_folder"], ORIGIN), text)


def data_root(run: Path, hparams: dict[str, Any]) -> Path:
    """Return the value of `$data_root` in the manifests of a run.

    Arguments
    ---------
    run : Path
        The run's output folder.
    hparams : dict
        From its YAML, which a run of an earlier version has instead of the record.

    Returns
    -------
    Path
    """
    record = run / ORIGIN
    if not record.is_file():
        return corpus_root(**source_of(hparams))
    return Path(json.loads(record.read_text(encoding="utf-8"))["data_root"])


def keys_of_recipe(of_recipe: Callable[..., Any]) -> set[str]:
    """Return the keys of all configurations of a recipe.

    Arguments
    ---------
    of_recipe : callable
        A function that is defined in the recipe's folder.

    Returns
    -------
    set[str]
        A run of an earlier version has fewer.
    """
    folder = _folder(of_recipe)
    # As `sbvq cp` copies them, or beside all recipes.
    copied, beside = folder / "hparams", folder.parents[1] / "hparams" / folder.name
    files = [*copied.glob("*.yaml"), *beside.glob("*.yaml")]
    return {key for file in files for key in read_yaml(file)}


def _folder(of_recipe: Callable[..., Any]) -> Path:
    return Path(inspect.getfile(of_recipe)).resolve().parent
