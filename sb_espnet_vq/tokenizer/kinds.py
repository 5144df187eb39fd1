"""The kinds of models that a tokenizer may hold, and how a run shows its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from sb_espnet_vq.errors import CheckpointError
from sb_espnet_vq.tokenizer import (
    best_rq,
    codec,
    espnet_codec,
    transformers_codec,
    wav2vec2,
)
from sb_espnet_vq.tokenizer.base import TokenModel
from sb_espnet_vq.tokenizer.recipe_run import YAML_NAME, RecipeRun

MODELS: dict[str, type[TokenModel]] = {
    "best_rq": best_rq.BestRQTokens,
    "codec": codec.CodecTokens,
    "espnet_codec": espnet_codec.ESPnetTokens,
    transformers_codec.KIND: transformers_codec.TransformersTokens,
    "wav2vec2": wav2vec2.Wav2Vec2Tokens,
}
# A key of the YAML file that only this recipe has.
_RECIPES = {
    "target_quantizer": ("best_rq", best_rq.read_run),
    "codec": ("codec", codec.read_run),
    "target_quantiser": ("wav2vec2", wav2vec2.read_run),
}


def read_run(folder: str | Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Return the kind of a run, the options of its model and the trained state.

    Arguments
    ---------
    folder : str or Path
        The output folder of a recipe, or the ``expdir`` of ESPnet's training.

    Returns
    -------
    kind : str
        A key of `MODELS`.
    options : dict
        A tree that JSON can hold.
    state : dict
        Of tensors, for ``load_state_dict``.

    Raises
    ------
    CheckpointError
        If the folder is no such run, or has no checkpoint yet.
    ConfigError
        If the run contains a class that a tokenizer cannot hold.
    """
    folder = Path(folder)
    if (folder / YAML_NAME).is_file():
        run = RecipeRun(folder)
        for key, (kind, read) in _RECIPES.items():
            if key in run:
                return kind, *read(run)
        if "interpreter" in run:
            raise CheckpointError(
                f"{folder}: a run of PIQ, whose codes explain the decision of a "
                "classifier in the cells of a spectrogram; they are no sequence of "
                "tokens"
            )
    if (folder / espnet_codec.CONFIG).is_file():
        return "espnet_codec", *espnet_codec.read_run(folder)
    raise CheckpointError(
        f"{folder}: no run of a recipe (it has {YAML_NAME} and save) and none of "
        f"ESPnet's codec training (it has {espnet_codec.CONFIG} and "
        f"{espnet_codec.MODEL})"
    )
