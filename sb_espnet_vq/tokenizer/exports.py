"""The formats of ``sbvq export``.

`FORMATS` maps the name of a format to a function that writes a trained model into a
folder. The model is given as on the command line: a run, a saved tokenizer or the id of
a repository.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sb_espnet_vq.tokenizer import (
    export_espnet,
    export_finetuning,
    export_layouts,
    export_onnx,
    export_speechbrain,
)
from sb_espnet_vq.tokenizer.models import load_tokenizer

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer


def _of_tokenizer(
    write: Callable[[AudioTokenizer, Path], object],
) -> Callable[[str, Path], None]:
    """Return the function of a format that holds what a tokenizer holds."""

    def export(model: str, folder: Path) -> None:
        write(load_tokenizer(model), folder)

    return export


FORMATS: dict[str, Callable[[str, Path], None]] = {
    "hub": _of_tokenizer(lambda tokenizer, folder: tokenizer.save_pretrained(folder)),
    "speechbrain": export_speechbrain.export,
    "speechbrain-finetune": _of_tokenizer(export_finetuning.export),
    "espnet": _of_tokenizer(export_espnet.export),
    "onnx": _of_tokenizer(export_onnx.export),
    **export_layouts.FORMATS,
}
