"""Reads values of an ESPnet training configuration, with the defaults of its codecs."""

import math
from pathlib import Path
from typing import Any

import yaml

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer

Config = dict[str, Any]

RATIOS, BINS, N_Q, BANDWIDTHS = [8, 5, 4, 2], 1024, 8, [7.5, 15]
SPECTRAL_RATIOS = [[4, 1], [4, 1], [4, 2], [4, 1]]


def load(path: Path) -> Config:
    """Read the configuration that configure.py wrote."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def check_sizes(config: Config) -> None:
    """Raise ConfigError for chunk lengths that are not multiples of the hop size."""
    if config["codec"].endswith("funcodec"):
        hop, source = spectral_hop(generator(config)), "hop_length and encdec_ratios"
    else:
        hifi = config["codec"].endswith("hificodec")
        source = "upsample_rates" if hifi else "encdec_ratios"
        ratios = generator(config).get(source, RATIOS)
        if not (
            isinstance(ratios, list)
            and ratios
            and all(type(each) is int and each > 0 for each in ratios)
        ):
            raise ConfigError(
                f"{source} must be a list of whole numbers above 0, such as "
                f"{RATIOS}, not {ratios!r}"
            )
        hop = math.prod(ratios)
    wrong = [each for each in chunk_lengths(config) if each % hop]
    if wrong:
        raise ConfigError(
            f"chunk_length must be a multiple of {hop} samples (one frame, the product "
            f"of {source}), not {wrong[0]}"
        )


def spectral_hop(params: Config) -> int:
    """Return the samples of a frame of FunCodec, which codes spectra."""
    ratios = params.get("encdec_ratios", SPECTRAL_RATIOS)
    try:
        return params.get("domain_conf", {}).get("hop_length", 160) * math.prod(
            along_time for _, along_time in ratios
        )
    except (TypeError, ValueError):
        raise ConfigError(
            "encdec_ratios must be pairs of factors along frequency and time, such as "
            f"{SPECTRAL_RATIOS}, not {ratios!r}"
        ) from None


def generator(config: Config) -> Config:
    """Return the options of the generator."""
    return config["codec_conf"].get("generator_params") or {}


def chunk_lengths(config: Config) -> list[int]:
    """Return the lengths (samples) that ESPnet draws from; empty without chunks."""
    if config.get("iterator_type", "sequence") != "chunk":
        return []
    text = str(config.get("chunk_length", 500))
    lengths: list[int] = []
    try:
        for each in text.split(","):
            first, _, last = each.partition("-")
            lengths += range(int(first), int(last or first) + 1)
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 1:
        raise ConfigError(
            f"chunk_length must be in samples, such as 16000, got {text!r}"
        )
    return lengths


def build_quantizer(conf: Config) -> CodecQuantizer:
    """Build the quantizer that the codec of this `codec_conf` will have."""
    params = conf.get("generator_params") or {}
    return CodecQuantizer(
        dimension=params.get("hidden_dim", 128),
        codebook_dim=params.get("codebook_dim", params.get("hidden_dim", 128)),
        n_q=params.get("quantizer_n_q", N_Q),
        bins=params.get("quantizer_bins", BINS),
        quantizer_dropout=params.get("quantizer_dropout", False),
        quantizer=conf.get("quantizer", "rvq"),
        quantizer_conf=conf.get("quantizer_conf") or {},
    )


def codebook_sizes(config: Config) -> list[int]:
    """Return the number of codes of each codebook."""
    if not config["codec"].startswith("vq_"):
        params = generator(config)
        bins, number = params.get("quantizer_bins", BINS), params.get("quantizer_n_q")
        return [bins] * (number or N_Q)
    sizes = build_quantizer(config["codec_conf"]).codebook_sizes
    # HiFi-Codec has two quantizers, whose codes alternate.
    groups = 2 if config["codec"] == "vq_hificodec" else 1
    return [size for size in sizes for _ in range(groups)]
