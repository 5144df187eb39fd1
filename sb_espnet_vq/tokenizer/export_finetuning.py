"""Export to the fine-tuning recipes of SpeechBrain.

A folder with the checkpoints that `train_with_bestrq.py` or `train_with_wav2vec.py`
(recipes/LibriSpeech/ASR/CTC) load, networks.yaml, the networks for their YAML file, and
NAME.yaml for each network that their command line can replace by an included file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sb_espnet_vq.tokenizer.hub_folder import staged
from sb_espnet_vq.tokenizer.speechbrain_networks import Network, networks_of
from sb_espnet_vq.tokenizer.speechbrain_yaml import write_included, write_yaml

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer

YAML_NAME = "networks.yaml"
_COMMENTS = (
    "Put these in place of the networks of SpeechBrain's fine-tuning YAML file, or",
    "include their own files on its command line: --NAME '!include:DIR/NAME.yaml'.",
    "Set the width of its output layers to that of the encoder.",
)
# Networks that refer to another one, which an included file cannot.
_REFER = {"encoder_wrapper"}


def export(tokenizer: AudioTokenizer, folder: Path) -> None:
    """Write checkpoints and YAML files; files are replaced on success.

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
    networks = networks_of(tokenizer)
    files, more = _FILES[tokenizer.config["kind"]](networks)
    nodes = {name: network.tree for name, network in networks.items()} | more
    with staged(folder) as aside:
        text = write_yaml(nodes, _COMMENTS)
        (aside / YAML_NAME).write_text(text, encoding="utf-8")
        for name in networks.keys() - _REFER:
            included = write_included(networks[name].tree)
            (aside / f"{name}.yaml").write_text(included, encoding="utf-8")
        for name, state in files.items():
            torch.save(state, aside / name)


def _best_rq(networks: dict[str, Network]) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = ("CNN", "enc")
    state = {
        f"{number}.{key}": value
        for number, name in enumerate(parts)
        for key, value in networks[name].state.items()
    }
    files = {"model.ckpt": state, "normalize.ckpt": networks["normalize"].state}
    both = [{"ref": name} for name in parts]
    return files, {"pt_model": {"class": "torch.nn.ModuleList", "options": [both]}}


def _wav2vec2(networks: dict[str, Network]) -> tuple[dict[str, Any], dict[str, Any]]:
    files = {
        "latent_extractor.ckpt": networks["extractor"].state,
        "latent_encoder.ckpt": networks["encoder_wrapper"].state,
    }
    return files, {}


_FILES = {"best_rq": _best_rq, "wav2vec2": _wav2vec2}
