"""Fitted centres as files: for this package, and for the toolkits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sb_espnet_vq import registry
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.tokenizer.kmeans_fit import stack_centres
from sb_espnet_vq.tokenizer.quantizer_folder import save_new
from sb_espnet_vq.utils.files import new_folder

CENTRES, REPORT = "centres.npy", "fit.json"


def refuse_full(folder: Path) -> None:
    """Raise ConfigError unless a folder is empty or does not exist."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(
            f"{folder} is a file or has files: give another folder to --out"
        )


def model_names(stages: int) -> list[str]:
    """Return the names that ESPnet gives to the models of one or several codebooks.

    Example
    -------
    >>> model_names(1), model_names(2)
    (['km.mdl'], ['km_RVQ_0.mdl', 'km_RVQ_1.mdl'])
    """
    if stages == 1:
        return ["km.mdl"]
    return [f"km_RVQ_{k}.mdl" for k in range(stages)]


def write(folder: Path, models: list[Any], report: dict[str, Any]) -> None:
    """Write the folder of a fit, atomically.

    Arguments
    ---------
    folder : Path
        Gets centres.npy (K, V, D); config.json and model.safetensors, a ``vq`` or
        ``rvq``; fit.json; and each ``MiniBatchKMeans``, which the toolkits load with
        joblib, as `model_names` says.
    models : list
        A fitted ``MiniBatchKMeans`` for each codebook.
    report : dict
        For fit.json.
    """
    import joblib
    import numpy

    centres = stack_centres(models)
    stages, size, dim = centres.shape
    name = "vq" if stages == 1 else "rvq"
    options = {"dim": dim, "codebook_size": size, "codebook": "frozen"}
    if stages > 1:
        options["n_codebooks"] = stages
    quantizer = registry.build(name, **options)
    quantizer.set_codebook_vectors(centres)
    with new_folder(folder) as aside:
        numpy.save(aside / CENTRES, centres.numpy())
        save_new(aside, name, options, quantizer)
        for each, model in zip(model_names(stages), models, strict=True):
            joblib.dump(model, aside / each)
        text = json.dumps(report, indent=1) + "\n"
        (aside / REPORT).write_text(text, encoding="utf-8")
