"""Export to ONNX: files that onnxruntime runs without torch and without this package.

For a codec, encoding and decoding of audio and of its quantizer; for an encoder, its
features and codes. Batch and time may have any size. model.json describes the files.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.tokenizer import onnx_lstm
from sb_espnet_vq.tokenizer.hub_folder import staged

if TYPE_CHECKING:
    from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer

FORMAT = 1
DESCRIPTION = "model.json"
_AXES = {
    "signals": ("batch", "samples"),
    "frames": ("batch", "time", "width"),
    "codes": ("batch", "time", "codebooks"),
}


class _Part(NamedTuple):
    """A function of a model: its input and output are keys of `_AXES`."""

    call: Callable[[Tensor], Tensor]
    given: str
    result: str


def export(tokenizer: AudioTokenizer, folder: Path) -> None:
    """Write an ONNX file for each function of the model, and model.json.

    Arguments
    ---------
    tokenizer : AudioTokenizer
    folder : Path
        Created if missing; files are replaced on success.

    Raises
    ------
    ConfigError
        If the packages for the export are missing, or torch cannot export the model.
    """
    missing = [name for name in ("onnx", "onnxscript") if not find_spec(name)]
    if missing:
        raise ConfigError(
            f"export to ONNX needs {' and '.join(missing)}, which are not installed: "
            "pip install 'sb_espnet_vq[onnx]'"
        )
    parts = _parts(tokenizer)
    examples = _examples(tokenizer)
    description = {
        "format": FORMAT,
        "kind": tokenizer.config["kind"],
        "sample_rate": tokenizer.sample_rate,
        "hop": tokenizer.model.hop,
        "codebook_sizes": list(tokenizer.codebook_sizes),
        "files": {
            f"{name}.onnx": {
                "input": {part.given: _AXES[part.given]},
                "output": {part.result: _AXES[part.result]},
            }
            for name, part in parts.items()
        },
    }
    with staged(folder) as aside:
        for name, part in parts.items():
            program = _program(tokenizer, part, examples[part.given], name)
            program.save(aside / f"{name}.onnx")
        text = json.dumps(description, indent=1) + "\n"
        (aside / DESCRIPTION).write_text(text, encoding="utf-8")


def _parts(tokenizer: AudioTokenizer) -> dict[str, _Part]:
    model, used = tokenizer.model, len(tokenizer.codebook_sizes)
    encode = _Part(lambda signals: model.codes(signals, used), "signals", "codes")
    if not model.has_decoder:
        return {
            "encode": encode,
            "features": _Part(model.features, "signals", "frames"),
        }
    return {
        "encode": encode,
        "decode": _Part(model.audio, "codes", "signals"),
        "quantizer_encode": _Part(model.quantizer.encode, "frames", "codes"),
        "quantizer_decode": _Part(model.quantizer.decode, "codes", "frames"),
    }


def _examples(tokenizer: AudioTokenizer) -> dict[str, Tensor]:
    """Return inputs for tracing; the files accept other sizes."""
    # No whole number of frames.
    signals = 0.1 * torch.randn(2, 7 * tokenizer.model.hop + 1)
    codes, _ = tokenizer.encode(signals)
    return {
        "signals": signals,
        "frames": tokenizer.features(signals)[0],
        "codes": codes,
    }


class _Module(nn.Module):
    """A function of a model as a module, which the exporter takes."""

    def __init__(self, model: nn.Module, call: Callable[[Tensor], Tensor]):
        super().__init__()
        self.model, self.call = model, call

    def forward(self, given: Tensor) -> Tensor:
        return self.call(given)


def _program(tokenizer: AudioTokenizer, part: _Part, example: Tensor, name: str) -> Any:
    # Named dimensions would forbid the exporter to assume that there is a frame.
    dynamic = torch.export.Dim.DYNAMIC
    module = _Module(tokenizer.model, part.call).eval()
    try:
        with _quietly(), onnx_lstm.exportable(module):
            return torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: dynamic, 1: dynamic},),
                input_names=[part.given],
                output_names=[part.result],
                custom_translation_table=onnx_lstm.translations(),
                verbose=False,
            )
    except Exception as error:
        # The exporter has errors of several packages.
        raise ConfigError(
            f"torch cannot export {name} of this model to ONNX: {error}"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    # The exporter warns about its own dependencies and missing torchvision operators.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
