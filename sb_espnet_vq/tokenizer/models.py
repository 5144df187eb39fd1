"""A model given on a command line: a run, a saved folder or a repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sb_espnet_vq.errors import CheckpointError, VQError

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer


def load_tokenizer(name: str) -> AudioTokenizer:
    """Load a tokenizer.

    Arguments
    ---------
    name : str
        The folder of a run, a folder of ``save_pretrained``, or the id of a repository
        of the Hugging Face hub.

    Returns
    -------
    AudioTokenizer

    Raises
    ------
    CheckpointError, ConfigError
        If it cannot be loaded.
    """
    from sb_espnet_vq.tokenizer import AudioTokenizer

    if Path(name).is_dir() and not Path(name, "config.json").is_file():
        return AudioTokenizer.from_run(name)
    try:
        return AudioTokenizer.from_pretrained(name)
    except VQError:
        raise
    except Exception as error:
        # huggingface_hub has errors of several packages for a failed download.
        raise CheckpointError(
            f"{name}: no such folder, and no repository that can be downloaded: {error}"
        ) from error
