"""``sbvq export --to original`` and to the layout of another program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.tokenizer import hub_folder, tensor_file, transformers_codec
from sb_espnet_vq.tokenizer.imports import original_state, state_in_layout
from sb_espnet_vq.tokenizer.layouts import LAYOUTS
from sb_espnet_vq.tokenizer.layouts.tables import CENTRES
from sb_espnet_vq.tokenizer.models import load_tokenizer
from sb_espnet_vq.tokenizer.quantizer_folder import (
    holds_quantizer,
    load_imported,
    load_quantizer,
)


def export_original(model: str, folder: str | Path) -> None:
    """Write what was imported as the program it came from has it.

    Arguments
    ---------
    model : str
        A folder of ``sbvq import``.
    folder : str or Path
        Gets model.safetensors, for centres of k-means centres.npy (unless they are
        bfloat16); for a codec of transformers also config.json.

    Raises
    ------
    ConfigError
        If the model was not imported.
    """
    if holds_quantizer(model):
        imported = load_imported(model)
        _write(original_state(imported.quantizer, imported.origin), folder)
        return
    tokenizer = load_tokenizer(model)
    kind = tokenizer.config["kind"]
    if kind != transformers_codec.KIND:
        raise ConfigError(f"{model}: it was not imported, but is a {kind} of ours")
    # A model of this kind.
    transformers_codec.write_folder(cast(Any, tokenizer.model), folder)


def to_layout(layout: str) -> Callable[[str, Path], None]:
    """Return the function that exports a quantizer to a layout.

    Arguments
    ---------
    layout : str
        A name of `LAYOUTS`.

    Returns
    -------
    Callable
        From a model (an imported quantizer, or the model of a run) and a folder, which
        gets model.safetensors or centres.npy, with names without prefix.
    """

    def export(model: str, folder: Path) -> None:
        if holds_quantizer(model):
            quantizer = load_quantizer(model)
        else:
            quantizer = load_tokenizer(model).model.quantizer
        _write(state_in_layout(quantizer, layout), folder)

    return export


FORMATS = {
    "original": export_original,
    **{layout: to_layout(layout) for layout in LAYOUTS},
}


def _write(state: Mapping[str, Tensor], folder: str | Path) -> None:
    with hub_folder.staged(folder) as aside:
        # numpy has no bfloat16.
        if list(state) == [CENTRES] and state[CENTRES].dtype != torch.bfloat16:
            import numpy

            numpy.save(aside / f"{CENTRES}.npy", state[CENTRES].numpy())
            return
        tensor_file.save(state, aside / hub_folder.WEIGHTS)
