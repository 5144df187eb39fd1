"""Fitted centres as files: for this package, and for the toolkits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sb_espnet_vq import registry
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.tokenizer import hub_folder
from sb_espnet_vq.tokenizer.kmeans_fit import stack_centres
from sb_espnet_vq.tokenizer.quantizer_folder import save_new

CENTRES, MODEL, REPORT = "centres.npy", "km.mdl", "fit.json"


def refuse_full(folder: Path) -> None:
    """Raise ConfigError if a folder has files."""
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} has files: give another folder to --out")


def write(folder: Path, models: list[Any], report: dict[str, Any]) -> None:
    """Write the folder of a fit, atomically.

    Arguments
    ---------
    folder : Path
        Gets centres.npy (K, V, D); config.json and model.safetensors, a ``vq`` or
        ``rvq``; fit.json; and, for one codebook, km.mdl, the ``MiniBatchKMeans`` that
        the toolkits load with joblib.
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
    with hub_folder.staged(folder) as aside:
        numpy.save(aside / CENTRES, centres.numpy())
        save_new(aside, name, options, quantizer)
        if stages == 1:
            joblib.dump(models[0], aside / MODEL)
        text = json.dumps(report, indent=1) + "\n"
        (aside / REPORT).write_text(text, encoding="utf-8")
