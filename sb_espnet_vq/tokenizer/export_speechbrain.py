"""Export to SpeechBrain's inference: a folder for ``WaveformEncoder.from_hparams``.

hyperparams.yaml names only classes of SpeechBrain and torch, and its Pretrainer loads
the weights beside it. A run of PIQ becomes a folder for ``PIQAudioInterpreter``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sb_espnet_vq.tokenizer import export_piq
from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer
from sb_espnet_vq.tokenizer.hub_folder import staged
from sb_espnet_vq.tokenizer.models import load_tokenizer
from sb_espnet_vq.tokenizer.speechbrain_networks import (
    Network,
    networks_of,
    whole_stacks,
    with_options,
)
from sb_espnet_vq.tokenizer.speechbrain_yaml import write_yaml

_POSITIONS = "speechbrain.lobes.models.transformer.Transformer.PositionalEncoding"
_AUDIO = "speechbrain.dataio.preprocess.AudioNormalizer"
_SEQUENCE = "speechbrain.nnet.containers.LengthsCapableSequential"


def export(model: str, folder: Path) -> None:
    """Write hyperparams.yaml and a file of weights for each network.

    Arguments
    ---------
    model : str
        A run of BEST-RQ, wav2vec 2.0 or PIQ, or a saved tokenizer of the first two.
    folder : Path
        Created if missing; files are replaced on success.

    Raises
    ------
    ConfigError
        If it is another model, or contains what SpeechBrain does not have.
    CheckpointError
        If it cannot be loaded.
    """
    if export_piq.is_run(model):
        networks, values = export_piq.read(Path(model))
    else:
        networks, values = _encoder(load_tokenizer(model))
    loaded = {name: {"ref": name} for name, each in networks.items() if each.state}
    nodes = {name: each.tree for name, each in networks.items()} | values
    nodes["pretrainer"] = {
        "class": "speechbrain.utils.parameter_transfer.Pretrainer",
        "options": {"loadables": loaded},
    }
    with staged(folder) as aside:
        (aside / "hyperparams.yaml").write_text(write_yaml(nodes), encoding="utf-8")
        for name in loaded:
            _write(networks[name].state, aside / f"{name}.ckpt")


def _encoder(tokenizer: AudioTokenizer) -> tuple[dict[str, Network], dict[str, Any]]:
    networks = networks_of(tokenizer)
    more, called = _ENCODERS[tokenizer.config["kind"]](tokenizer, networks)
    networks |= more
    whole = {"class": _SEQUENCE, "options": {name: {"ref": name} for name in called}}
    rate = tokenizer.sample_rate
    # The normalizer moves its statistics to a device only if it is itself a module.
    modules = {name: {"ref": name} for name in ("normalize",) if name in networks}
    return networks, {
        "sample_rate": rate,
        "audio_normalizer": {"class": _AUDIO, "options": {"sample_rate": rate}},
        "audio_encoder": whole,
        "modules": {"encoder": {"ref": "audio_encoder"}} | modules,
    }


def _best_rq(
    tokenizer: AudioTokenizer, networks: dict[str, Network]
) -> tuple[dict[str, Network], list[str]]:
    cut = whole_stacks(tokenizer)
    return cut, ["compute_features", "normalize", *cut, "CNN", "enc"]


def _wav2vec2(
    tokenizer: AudioTokenizer, networks: dict[str, Network]
) -> tuple[dict[str, Network], list[str]]:
    wrapper = _any_length(networks["encoder_wrapper"], tokenizer.model)
    return {"encoder_wrapper": wrapper}, ["extractor", "encoder_wrapper"]


_ENCODERS = {"best_rq": _best_rq, "wav2vec2": _wav2vec2}


def _any_length(wrapper: Network, model: Any) -> Network:
    """Return the wrapper with the positions of the run, of which it saves the first."""
    positions = model.latent_encoder.positional_encoding.pe.cpu().clone()
    options = {"max_len": positions.shape[1]}
    partial = {"partial": _POSITIONS, "options": options}
    tree = with_options(wrapper.tree, positional_encoding=partial)
    return Network(tree, wrapper.state | {"positional_encoding.pe": positions})


def _write(state: Any, file: Path) -> None:
    if isinstance(state, str):
        file.write_text(state, encoding="utf-8")
    else:
        torch.save(state, file)
