"""A trained model as tokens: encode, decode, save and load; and quantizers of others.

`AudioTokenizer` needs the extra ``tokenizer``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from sb_espnet_vq.errors import ConfigError

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer
    from sb_espnet_vq.tokenizer.imports import import_quantizer, original_state
    from sb_espnet_vq.tokenizer.quantizer_folder import load_quantizer, save_quantizer

__all__ = [
    "AudioTokenizer",
    "import_quantizer",
    "load_quantizer",
    "original_state",
    "save_quantizer",
]

_MODULES = {
    "AudioTokenizer": "audio_tokenizer",
    "import_quantizer": "imports",
    "load_quantizer": "quantizer_folder",
    "original_state": "imports",
    "save_quantizer": "quantizer_folder",
}


def __getattr__(name: str):
    # Deferred, since `AudioTokenizer` derives from a class of huggingface_hub.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("huggingface_hub", "safetensors"):
            raise
        raise ConfigError(
            f"{name} needs {error.name}, which is not installed: "
            "pip install 'sb_espnet_vq[tokenizer]'"
        ) from error
    return getattr(module, name)
