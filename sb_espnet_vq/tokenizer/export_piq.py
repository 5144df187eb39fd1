"""A run of the PIQ recipe as the networks of SpeechBrain's ``PIQAudioInterpreter``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sb_espnet_vq.errors import CheckpointError, ConfigError
from sb_espnet_vq.registry import same_quantizer
from sb_espnet_vq.tokenizer.recipe_run import YAML_NAME, RecipeRun
from sb_espnet_vq.tokenizer.speechbrain_networks import Network

_KEY, _CLASSES = "interpreter", "classes.json"
_PIQ = "speechbrain.lobes.models.PIQ"
_FEATURES = "speechbrain.processing.features"
# Tags of the recipe's interpreter, the second of version 0.1.
_OWN = ("!new:networks.Interpreter", "!new:piq_models.Interpreter")


def is_run(model: str) -> bool:
    """Return whether a folder is a run of the PIQ recipe."""
    folder = Path(model)
    return (folder / YAML_NAME).is_file() and _KEY in RecipeRun(folder)


def read(folder: Path) -> tuple[dict[str, Network], dict[str, Any]]:
    """Return the networks of a run, and the other values of the interpreter's YAML.

    Arguments
    ---------
    folder : Path
        The run's output folder.

    Returns
    -------
    networks : dict
        Of `Network`.
    values : dict
        Trees, references and numbers.

    Raises
    ------
    ConfigError
        If SpeechBrain's class cannot hold the dictionary of the run.
    CheckpointError
        If the run is not complete.
    """
    run = RecipeRun(folder, "piq/save")
    _check(run)
    state, parts = run.load("loss", _KEY), run.load("loss", "classifier")
    dim, classes = run.value("dim"), _read_classes(folder)
    sizes = {"K": run.value("codebook_size"), "numclasses": len(classes)}
    psi = {"dim": dim} | sizes | {"shared_keys": run.value("shared_keys")}
    head = {"in_features": dim, "out_features": len(classes)}
    networks = {
        "compute_stft": _transform(run, "STFT"),
        "compute_istft": _transform(run, "ISTFT"),
        "embedding_model": Network(
            _new(f"{_PIQ}.Conv2dEncoder_v2", dim=dim), _below(parts, "encoder.")
        ),
        "classifier": Network(_new("torch.nn.Linear", **head), _below(parts, "head.")),
        "psi": Network(
            _new(f"{_PIQ}.VectorQuantizedPSI_Audio", **psi), _below(state, "psi.")
        ),
    }
    modules = {name: {"ref": name} for name in networks}
    encoder = _new("speechbrain.dataio.encoder.CategoricalEncoder")
    networks["label_encoder"] = Network(encoder, _labels(classes))
    return networks, {
        "sample_rate": run.value("sample_rate"),
        # Magnitudes; and the output of psi is the mask.
        "spec_mag_power": 0.5,
        "use_vq": True,
        "use_mask_output": True,
        "modules": modules,
    }


def _check(run: RecipeRun) -> None:
    tag = str(run.yaml[_KEY].tag.value)
    if tag not in _OWN:
        raise ConfigError(
            f"the interpreter of this run is {tag}; only that of the PIQ recipe, "
            f"{_OWN[0]}, is exported"
        )
    quantizer, conf = run.value("quantizer"), run.value("quantizer_conf")
    if conf or not same_quantizer(quantizer, "class_partitioned"):
        raise ConfigError(
            f"this run has the quantizer {quantizer!r} with quantizer_conf "
            f"{conf or {}}, but the dictionary of SpeechBrain's PIQ is "
            "class_partitioned, without quantizer_conf"
        )


def _read_classes(folder: Path) -> list[str]:
    try:
        return [str(name) for name in json.loads((folder / _CLASSES).read_text())]
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / _CLASSES}: unreadable, but it names the classes ({error})"
        ) from error


def _transform(run: RecipeRun, name: str) -> Network:
    rate = run.value("sample_rate")
    # SpeechBrain's lengths are in milliseconds.
    return Network(
        _new(
            f"{_FEATURES}.{name}",
            sample_rate=rate,
            n_fft=run.value("n_fft"),
            win_length=run.value("win_length") * 1000 / rate,
            hop_length=run.value("hop_length") * 1000 / rate,
            window_fn={"partial": "torch.hann_window", "options": {}},
        ),
        {},
    )


def _labels(classes: list[str]) -> str:
    """Return the text that SpeechBrain's encoder of labels reads."""
    lines = [f"{name!r} => {number}" for number, name in enumerate(classes)]
    return "\n".join([*lines, "=" * 16, "'starting_index' => 0", ""])


def _new(path: str, **options: Any) -> dict[str, Any]:
    return {"class": path, "options": options}


def _below(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        key[len(prefix) :]: value
        for key, value in state.items()
        if key.startswith(prefix)
    }
