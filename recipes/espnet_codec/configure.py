#!/usr/bin/env python3
"""Validate and write the training configuration of a run; the first step of run.sh.

Errors are reported here, within seconds, before data preparation. The script prints the
settings that run.sh needs, one name with its values per line.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import yaml
from config import BANDWIDTHS, Config, build_quantizer, check_sizes, generator
from known_codecs import check_codec, codec_class

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.utils.files import write_text
from sb_espnet_vq.utils.run_lock import lock_folder

# Imports of ESPnet's scoring that ESPnet does not declare as dependencies.
NEEDED = ("espnet2", "soundfile", "mir_eval", "pystoi")


def main(arguments: list[str]) -> None:
    """Read, validate and write the configuration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("expdir", type=Path, help="gets train.yaml")
    parser.add_argument("--quantizer", default="")
    parser.add_argument("--quantizer_conf", default="", help="a mapping in YAML")
    parser.add_argument("--bandwidths", default="", help="kbit/s, space-separated")
    parser.add_argument("--data", type=Path, help="folder of the prepared data")
    args = parser.parse_args(arguments)
    check_paths(args.expdir, args.data)
    check_packages()
    config = read_config(args.config)
    check_tensorboard(config)
    conf = config["codec_conf"]
    if args.quantizer or args.quantizer_conf:
        choose_quantizer(config, args.quantizer, args.quantizer_conf)
    check_sizes(config)
    if config["codec"].startswith("vq_"):
        build_quantizer(conf)
    bandwidths = read_bandwidths(args.bandwidths, config)
    check_codec(config, args.config)
    check_expdir(args.expdir, config)
    # Locked first, so that the configuration of an active run is not overwritten.
    lock_folder(args.expdir)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    write_text(args.expdir / "train.yaml", text)
    print("bandwidths", *(f"{each:g}" for each in bandwidths))
    print("seed", config.get("seed", 0))


def check_packages() -> None:
    """Raise ConfigError with the names of missing packages."""
    needed = list(NEEDED)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        if importlib.metadata.version("espnet") >= "202611":
            needed.append("fast_bss_eval")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} cannot be imported by {sys.executable}; install "
            "sb_espnet_vq with its extra espnet"
        )


def check_tensorboard(config: Config) -> None:
    """Raise ConfigError if the configuration uses TensorBoard and it is missing."""
    uses_it = config.get("use_tensorboard", True)  # ESPnet's default
    if uses_it and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            f"ESPnet's training needs tensorboard, which {sys.executable} cannot "
            "import: install it, or set use_tensorboard: false"
        )


def read_config(path: Path) -> Config:
    """Read a training configuration of ESPnet; raise ConfigError if it is not one."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such training configuration")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not YAML ({error})") from None
    conf = config.get("codec_conf") if isinstance(config, dict) else None
    if not isinstance(conf, dict) or not isinstance(config.get("codec"), str):
        raise ConfigError(f"{path}: a training configuration has codec and codec_conf")
    if not isinstance(conf.get("sampling_rate"), int) or conf["sampling_rate"] < 1:
        raise ConfigError(
            f"{path}: codec_conf needs sampling_rate, in Hz, which the data are "
            f"converted to; got {conf.get('sampling_rate')!r}"
        )
    codec_class(config["codec"], path)
    return config


def choose_quantizer(config: Config, name: str, options: str) -> None:
    """Put the quantizer of the command line into the configuration.

    `options` are a mapping in YAML; either text may be empty.
    """
    codec = config["codec"]
    if not codec.startswith("vq_"):
        raise ConfigError(
            f"codec {codec} is ESPnet's own and takes no quantizer; name vq_{codec}"
        )
    conf = config["codec_conf"]
    if name and name != conf.get("quantizer", "rvq"):
        # Options of another quantizer would be invalid.
        conf["quantizer"], conf["quantizer_conf"] = name, {}
    if options:
        try:
            given = yaml.safe_load(options)
        except yaml.YAMLError as error:
            raise ConfigError(f"--quantizer_conf: not YAML ({error})") from None
        if not isinstance(given, dict):
            raise ConfigError(
                "--quantizer_conf takes a mapping, such as '{entropy_weight: 0.1}', "
                f"not {options!r}"
            )
        conf["quantizer_conf"] = {**(conf.get("quantizer_conf") or {}), **given}


def read_bandwidths(text: str, config: Config) -> list[float]:
    """Return the bandwidths (kbit/s, ascending) to evaluate.

    Those of the configuration are used if `text`, from the command line, is empty.
    """
    trained = generator(config).get("quantizer_target_bandwidth", BANDWIDTHS)
    values = []
    for word in text.replace(",", " ").split() or trained:
        try:
            value = float(word)
        except (TypeError, ValueError):
            value = math.nan
        if not 0 < value < math.inf:
            raise ConfigError(
                f"a bandwidth must be a number above 0, in kbit/s, not {word!r}"
            )
        values.append(value)
    return sorted(set(values))


def check_paths(*folders: Path | None) -> None:
    """Raise ConfigError for paths that ESPnet or Kaldi lists cannot represent."""
    for folder in filter(None, folders):
        if "," in str(folder.absolute()):
            raise ConfigError(f"{folder}: ESPnet's options allow no path with a comma")
        if "\n" in str(folder.absolute()):
            raise ConfigError(f"{str(folder)!r}: Kaldi's lists allow no line break")


def check_expdir(expdir: Path, config: Config) -> None:
    """Raise ConfigError if another codec was trained in the folder."""
    earlier = expdir / "train.yaml"
    if not (earlier.is_file() and (expdir / "checkpoint.pth").exists()):
        return
    before = yaml.safe_load(earlier.read_text(encoding="utf-8"))
    for key in ("codec", "codec_conf"):
        if before.get(key) != config.get(key):
            raise ConfigError(
                f"{expdir} holds the training of another {key}: "
                f"{difference(before.get(key), config.get(key))}. Choose another "
                "--expdir, or remove this one"
            )


def difference(before: Any, now: Any, path: str = "") -> str:
    """Describe the first difference of two configurations below `path`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *now]:
            if before.get(key) != now.get(key):
                return difference(before.get(key), now.get(key), f"{path}{key} ")
    return f"{path}was {before!r}, is {now!r}"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
