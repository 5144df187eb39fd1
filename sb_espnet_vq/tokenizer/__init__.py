"""A trained model as tokens: encode, decode, save and load.

`AudioTokenizer` needs the extra ``tokenizer``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from sb_espnet_vq.errors import ConfigError

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer

__all__ = ["AudioTokenizer"]


def __getattr__(name: str):
    # Deferred, since the class derives from one of huggingface_hub.
    if name != "AudioTokenizer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.audio_tokenizer")
    except ModuleNotFoundError as error:
        if error.name not in ("huggingface_hub", "safetensors"):
            raise
        raise ConfigError(
            f"AudioTokenizer needs {error.name}, which is not installed: "
            "pip install 'sb_espnet_vq[tokenizer]'"
        ) from error
    return module.AudioTokenizer
