"""Export to the fine-tuning recipes of SpeechBrain.

A folder with the checkpoints that `train_with_bestrq.py` or `train_with_wav2vec.py`
(recipes/LibriSpeech/ASR/CTC) load, and networks.yaml, the networks for their YAML file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.tokenizer.hub_folder import staged

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer

YAML_NAME = "networks.yaml"
_OURS = "sb_espnet_vq."
_WAVEFORM = "sb_espnet_vq.ssl.front_ends.WaveformFrontEnd"


def export(tokenizer: AudioTokenizer, folder: Path) -> None:
    """Write the checkpoints and networks.yaml; files are replaced on success.

    Arguments
    ---------
    tokenizer : AudioTokenizer
        Of a run of BEST-RQ or wav2vec 2.0.
    folder : Path
        Created if missing.

    Raises
    ------
    ConfigError
        If SpeechBrain has no recipe for the model, or lacks one of its networks.
    """
    kind = tokenizer.config["kind"]
    if kind not in _EXPORTS:
        raise ConfigError(
            f"SpeechBrain has fine-tuning recipes for {' and '.join(_EXPORTS)}, not "
            f"for {kind}"
        )
    networks, files = _EXPORTS[kind](tokenizer)
    for name, tree in networks.items():
        _refuse_ours(tree, name)
    with staged(folder) as aside:
        (aside / YAML_NAME).write_text(_yaml(networks, kind), encoding="utf-8")
        for name, state in files.items():
            torch.save(state, aside / name)


def _best_rq(tokenizer: AudioTokenizer) -> tuple[dict[str, Any], dict[str, Any]]:
    model: Any = tokenizer.model
    options = tokenizer.config["options"]
    normalize = _with(options["normalize"], update_until_epoch=0)
    # The recipe expects one tensor from the encoder.
    encoder = options["encoder"]
    transformer = _with(encoder["options"]["transformer"], output_hidden_states=False)
    networks = {
        "compute_features": options["compute_features"],
        "normalize": normalize,
        "CNN": options["front_end"],
        "enc": _with(encoder, transformer=transformer),
    }
    state = _state(model.front_end, "0.") | _state(model.encoder, "1.")
    # The count only needs to be above 0.
    statistics = {
        "count": int(len(model.mean) > 0),
        "glob_mean": model.mean.cpu().clone(),
        "glob_std": model.std.cpu().clone(),
    }
    return networks, {"model.ckpt": state, "normalize.ckpt": statistics}


def _wav2vec2(tokenizer: AudioTokenizer) -> tuple[dict[str, Any], dict[str, Any]]:
    model: Any = tokenizer.model
    options = tokenizer.config["options"]
    if options["front_end"]["class"] != _WAVEFORM:
        raise ConfigError(
            "SpeechBrain's fine-tuning recipe for wav2vec 2.0 starts from the "
            "waveform, but the latent frames of this model are log-mels; train with "
            "fsdd_waveform.yaml or librispeech.yaml"
        )
    wrapper = dict(options["latent_encoder"]["options"])
    # Ours differs from the default only in its length, and not in checkpoints.
    wrapper.pop("positional_encoding", None)
    networks = {
        "extractor": options["front_end"]["options"]["extractor"],
        "encoder_wrapper": options["latent_encoder"] | {"options": wrapper},
    }
    files = {
        "latent_extractor.ckpt": _state(model.front_end.extractor),
        "latent_encoder.ckpt": _state(model.latent_encoder),
    }
    return networks, files


_EXPORTS = {"best_rq": _best_rq, "wav2vec2": _wav2vec2}
_MODULES = {
    "best_rq": "pt_model: !new:torch.nn.ModuleList\n    - [!ref <CNN>, !ref <enc>]\n",
    "wav2vec2": "",
}


def _with(node: dict[str, Any], **options: Any) -> dict[str, Any]:
    return node | {"options": node["options"] | options}


def _state(module: torch.nn.Module, prefix: str = "") -> dict[str, Tensor]:
    state = module.state_dict().items()
    return {f"{prefix}{key}": value.cpu().clone() for key, value in state}


def _refuse_ours(tree: Any, place: str) -> None:
    """Raise ConfigError if a class of this package is left."""
    if isinstance(tree, dict):
        path = tree.get("class") or tree.get("partial") or ""
        if isinstance(path, str) and path.startswith(_OURS):
            raise ConfigError(
                f"{place} is {path.rpartition('.')[2]}, which SpeechBrain does not "
                "have; its recipe has the front end of hparams/BEST-RQ/librispeech.yaml"
            )
        for each in tree.values():
            _refuse_ours(each, place)


def _yaml(networks: dict[str, Any], kind: str) -> str:
    lines = [
        "# Put these in place of the networks of SpeechBrain's fine-tuning YAML file,",
        "# and set the width of its output layers to that of the encoder.",
    ]
    for name, tree in networks.items():
        lines += _lines(name, tree, "")
    return "\n".join([*lines, _MODULES[kind]])


def _lines(key: str, tree: Any, indent: str) -> list[str]:
    kinds = {"class": "!new", "partial": "!name"}
    for name, tag in kinds.items():
        if isinstance(tree, dict) and name in tree:
            lines = [f"{indent}{key}: {tag}:{tree[name]}"]
            for option, value in tree["options"].items():
                lines += _lines(option, value, f"{indent}    ")
            return lines
    # JSON is YAML.
    return [f"{indent}{key}: {json.dumps(tree)}"]
