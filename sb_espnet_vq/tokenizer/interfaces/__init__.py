"""`AudioTokenizer` in the interfaces of other packages.

Each class takes a tokenizer, or what `load_tokenizer` loads: the folder of a run, a
folder of ``save_pretrained``, or the id of a repository of the hub. Those for
audiocodecs and transformers derive from a class of that package.
"""

from importlib import import_module
from typing import Any

from sb_espnet_vq.errors import ConfigError

# Each in a module of its own, since two of them derive from classes of other packages.
_MODULES = {
    "AudioCodecsCodec": "audiocodecs_codec",
    "DASBTokenizer": "dasb",
    "DiscreteLobe": "speechbrain_lobe",
    "ESPnetCodecTokenizer": "espnet_codec_tokenizer",
    "TransformersAudioTokenizer": "transformers_model",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("audiocodecs", "transformers"):
            raise
        raise ConfigError(
            f"{name} needs {error.name}, which is not installed: "
            f"pip install {error.name}"
        ) from error
    return getattr(module, name)
