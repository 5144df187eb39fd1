"""Modules for SpeechBrain: drop-ins (``models``) and adapters (``quantizers``)."""

import warnings
from importlib import import_module
from types import ModuleType

# Modules of version 0.1 and their new paths; users' YAML files may name the old ones.
_MOVED = {
    "batches": "training.batches",
    "checkpoints": "training.checkpoints",
    "codec": "codec.model",
    "codec_discriminator": "codec.discriminator",
    "codec_networks": "codec.networks",
    "contrastive_scores": "ssl.contrastive_scores",
    "front_ends": "ssl.front_ends",
    "negatives": "ssl.negatives",
    "normalization": "ssl.normalization",
    "piq_dictionary": "lobes.models.piq_dictionary",
    "piq_networks": "lobes.models.piq_networks",
    "positions": "ssl.positions",
    "schedules": "training.schedules",
    "span_masks": "ssl.span_masks",
    "spectral_losses": "codec.losses",
}


def __getattr__(name: str) -> ModuleType:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path = f"sb_espnet_vq.{_MOVED[name]}"
    # Not DeprecationWarning, which Python hides by default outside of __main__.
    warnings.warn(
        f"sb_espnet_vq.lobes.{name} is now {path}; the old path works until version "
        "0.3. Change the YAML file.",
        FutureWarning,
        stacklevel=2,
    )
    return import_module(path)
