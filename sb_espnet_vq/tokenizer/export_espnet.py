"""Export to stock ESPnet: a codec that ``AudioCoding`` loads without this package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.registry import same_quantizer
from sb_espnet_vq.tokenizer.espnet_codec import CONFIG, MODEL, STOCK
from sb_espnet_vq.tokenizer.hub_folder import staged

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer

ARCHIVE = "model.zip"


def export(tokenizer: AudioTokenizer, folder: Path) -> None:
    """Write config.yaml and latest.pth, and both as an archive of ESPnet's packer.

    They contain the encoder, quantizer and decoder. Discriminators are not included, so
    training cannot be continued from them.

    Arguments
    ---------
    tokenizer : AudioTokenizer
        Of a run of ESPnet's codec training, with ``rvq``.
    folder : Path
        Created if missing.

    Raises
    ------
    ConfigError
        If stock ESPnet does not have the codec or its quantizer.
    """
    if tokenizer.config["kind"] != "espnet_codec":
        raise ConfigError(
            f"this model is a run of {tokenizer.config['kind']}, whose networks ESPnet "
            "does not have; ESPnet holds codecs of its own training"
        )
    ours, conf = (tokenizer.config["options"][key] for key in ("codec", "codec_conf"))
    conf, stock = dict(conf), {name: each for each, name in STOCK.items()}
    if ours not in stock:
        raise ConfigError(
            f"the codec {ours} is not exported, only {', '.join(sorted(stock))}"
        )
    quantizer = conf.pop("quantizer", "rvq")
    own = conf.pop("quantizer_conf", None)
    if own or not same_quantizer(quantizer, "rvq"):
        raise ConfigError(
            f"this codec has the quantizer {quantizer!r} with quantizer_conf "
            f"{own or {}}, but stock ESPnet has only rvq, without quantizer_conf"
        )
    config: dict[str, Any] = {"codec": stock[ours], "codec_conf": conf}
    # ESPnet's inference reads them.
    config |= {"model_conf": {}, "use_preprocessor": True, "iterator_type": "sequence"}
    state = tokenizer.model.state_dict()
    with staged(folder) as aside:
        # JSON is YAML.
        text = json.dumps(config, indent=1)
        (aside / CONFIG).write_text(f"{text}\n", encoding="utf-8")
        tensors = {key: value.cpu().clone() for key, value in state.items()}
        torch.save(tensors, aside / MODEL)
        _pack(aside)


def _pack(folder: Path) -> None:
    """Write the archive with ``espnet2.bin.pack``.

    It stores paths relative to the working directory, so it runs in the folder.
    """
    packer = [sys.executable, "-m", "espnet2.bin.pack", "codec"]
    files = ["--train_config", CONFIG, "--model_file", MODEL, "--outpath", ARCHIVE]
    done = subprocess.run(
        [*packer, *files], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(f"espnet2.bin.pack failed: {done.stderr.strip()[-500:]}")
