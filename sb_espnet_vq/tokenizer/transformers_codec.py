"""Codecs of transformers with a quantizer of this package: EnCodec, DAC and Mimi."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import CheckpointError, ConfigError
from sb_espnet_vq.registry import build
from sb_espnet_vq.tokenizer import hub_folder
from sb_espnet_vq.tokenizer.base import TokenModel
from sb_espnet_vq.tokenizer.imports import import_quantizer, state_in_layout

KIND, CONFIG = "transformers_codec", "config.json"
# Of the model as a file, not of its networks.
_NOT_NETWORKS = (
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "torch_dtype",
    "transformers_version",
)


# Options of older configurations, which transformers converts or does not need.
_OLDER = {"frame_rate", "normalize", "rope_theta"}


class _Architecture(NamedTuple):
    """Names of the classes; the layout; and the calls around the quantizer.

    hop : attribute of the configuration with the samples per frame; encode : from
    model and audio (B, 1, L) to frames (B, D, T); decode : back; whole_frames : whether
    audio must be a whole number of frames.
    """

    config: str
    model: str
    layout: str
    hop: str
    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor], Tensor]
    whole_frames: bool = False


# A configuration of unknown origin chooses among these alone.
_ARCHITECTURES = {
    "encodec": _Architecture(
        "EncodecConfig",
        "EncodecModel",
        "transformers_encodec",
        "hop_length",
        lambda model, audio: model.encoder(audio),
        lambda model, frames: model.decoder(frames),
    ),
    "dac": _Architecture(
        "DacConfig",
        "DacModel",
        "transformers_dac",
        "hop_length",
        lambda model, audio: model.encoder(audio),
        lambda model, frames: model.decoder(frames),
        whole_frames=True,
    ),
    "mimi": _Architecture(
        "MimiConfig",
        "MimiModel",
        "transformers_mimi",
        "frame_size",
        lambda model, audio: model.encoder(audio).latents,
        lambda model, frames: model.decoder(frames).audio_values,
    ),
}


class TransformersTokens(TokenModel):
    """Encodes and decodes with a codec of transformers and our quantizer.

    Arguments
    ---------
    architecture : str
        ``encodec``, ``dac`` or ``mimi``.
    config : dict
        The model's configuration.
    quantizer : str
        A registered name.
    quantizer_conf : dict
        Its options.

    Raises
    ------
    ConfigError
        If transformers is not installed, or the configuration is not one of mono audio
        in one piece.
    """

    name = "this codec of transformers"
    has_decoder = True

    def __init__(
        self,
        architecture: str,
        config: dict[str, Any],
        quantizer: str,
        quantizer_conf: dict[str, Any],
    ):
        super().__init__()
        self.architecture = _architecture(architecture)
        self.codec = empty_model(architecture, config)
        self.codec.quantizer = nn.Identity()
        self.vq = build(quantizer, **quantizer_conf)
        own = self.codec.config
        self.sample_rate = int(own.sampling_rate)
        self.hop = int(getattr(own, self.architecture.hop))

    @property
    def quantizer(self):
        """The codec's quantizer."""
        return self.vq

    def frames(self, signals: Tensor) -> Tensor:
        """Return the output (B, T, D) of the encoder."""
        if self.architecture.whole_frames:
            # As the model's feature extractor does.
            signals = F.pad(signals, (0, -signals.shape[1] % self.hop))
        return self.architecture.encode(self.codec, signals[:, None]).transpose(1, 2)

    def features(self, signals: Tensor) -> Tensor:
        """Return the frames (B, T, D) before quantization."""
        return self.frames(signals)

    def audio(self, codes: Tensor) -> Tensor:
        """Return the audio (B, T * hop) of codes (B, T, K)."""
        frames = self.vq.decode(codes).transpose(1, 2)
        audio = self.architecture.decode(self.codec, frames)[:, 0]
        # Odd strides give a few samples less.
        length = codes.shape[1] * self.hop
        return F.pad(audio, (0, max(0, length - audio.shape[1])))[:, :length]


def holds_codec(folder: str | Path) -> bool:
    """Return whether a folder is that of such a model of transformers.

    Arguments
    ---------
    folder : str or Path

    Returns
    -------
    bool
    """
    return _read_config(Path(folder)).get("model_type") in [*_ARCHITECTURES]


def read_folder(
    folder: str | Path,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a folder of ``save_pretrained`` of transformers.

    Arguments
    ---------
    folder : str or Path
        With config.json and model.safetensors.

    Returns
    -------
    options : dict
        Of `TransformersTokens`, a tree that JSON can hold.
    state : dict
        Of tensors.

    Raises
    ------
    CheckpointError
        If the weights are not those of the configuration.
    ConfigError
        As `TransformersTokens`.
    """
    folder = Path(folder)
    given = _read_config(folder)
    architecture = str(given.get("model_type"))
    known = _architecture(architecture)
    config = {k: v for k, v in given.items() if k not in _NOT_NETWORKS}
    _refuse_unknown(_class(known.config), config)
    _refuse_pieces(config)
    try:
        model, report = _class(known.model).from_pretrained(
            folder,
            config=_class(known.config)(**config),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except Exception as error:
        # transformers, huggingface_hub and safetensors have errors of their own.
        raise CheckpointError(f"{folder}: cannot be read ({error})") from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if wrong := sorted(map(str, report.get(what) or ())):
            kind = what.replace("_keys", "")
            raise CheckpointError(f"{folder}: {kind} tensor {wrong[0]}")
    imported = import_quantizer(model.quantizer, known.layout)
    model.quantizer = nn.Identity()
    plain = json.loads(json.dumps(model.config.to_dict()))
    state = {f"codec.{k}": v for k, v in model.state_dict().items()}
    state |= {f"vq.{k}": v for k, v in imported.quantizer.state_dict().items()}
    options = {
        "architecture": architecture,
        "config": {k: v for k, v in plain.items() if k not in _NOT_NETWORKS},
        "quantizer": imported.name,
        "quantizer_conf": imported.options,
    }
    return options, state


def write_folder(model: TransformersTokens, folder: str | Path) -> None:
    """Write a model as transformers saves it.

    Arguments
    ---------
    model : TransformersTokens
    folder : str or Path
        Created if missing. Gets config.json and model.safetensors.

    Raises
    ------
    ConfigError
        If the quantizer is no longer one of that architecture.
    """
    config = model.codec.config.to_dict()
    again = empty_model(config["model_type"], config)
    state = state_in_layout(model.vq, model.architecture.layout)
    whole = model.codec.state_dict()
    again.load_state_dict({**whole, **{f"quantizer.{k}": v for k, v in state.items()}})
    with hub_folder.staged(folder) as aside:
        again.save_pretrained(aside)


def empty_model(architecture: str, config: Mapping[str, Any]) -> Any:
    """Build a model of transformers from a plain configuration.

    Arguments
    ---------
    architecture : str
        ``encodec``, ``dac`` or ``mimi``.
    config : Mapping
        Its options; none that transformers would import code for.

    Returns
    -------
    torch.nn.Module
        With random weights, in eval mode.

    Raises
    ------
    ConfigError
        As `TransformersTokens`.
    """
    known = _architecture(architecture)
    plain = {k: v for k, v in config.items() if k not in _NOT_NETWORKS}
    kind = _class(known.config)
    _refuse_unknown(kind, plain)
    try:
        built = kind(**plain)
        _refuse_pieces(built.to_dict())
        return _class(known.model)(built).eval()
    except ConfigError:
        raise
    except Exception as error:
        # transformers checks types with errors of huggingface_hub.
        raise ConfigError(
            f"transformers builds no {architecture} of this configuration: {error}"
        ) from error


def _refuse_pieces(config: Mapping[str, Any]) -> None:
    """Raise ConfigError unless a codec has one channel and no scale for each piece."""
    for name, wanted in (
        ("audio_channels", 1),
        ("normalize", False),
        ("chunk_length_s", None),
    ):
        if config.get(name, wanted) != wanted:
            raise ConfigError(
                "only codecs of mono audio, in one piece and without a scale for each "
                f"piece, can be imported: {name} must be {wanted}, got {config[name]}"
            )


def _architecture(name: str) -> _Architecture:
    if name not in _ARCHITECTURES:
        raise ConfigError(
            f"architecture must be one of {', '.join(_ARCHITECTURES)}, got {name!r}"
        )
    return _ARCHITECTURES[name]


def _class(name: str) -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ConfigError(
            "this codec needs transformers, which is not installed: "
            "pip install 'sb_espnet_vq[transformers]'"
        ) from error
    return getattr(transformers, name)


def _refuse_unknown(kind: Any, config: Mapping[str, Any]) -> None:
    """Raise ConfigError if a configuration has keys that the class does not have.

    Among others are those by which transformers finds code to import.
    """
    known = set(kind().to_dict())
    if unknown := sorted(set(config) - known - _OLDER):
        raise ConfigError(
            f"the installed transformers has no option {unknown[0]!r} of "
            f"{kind.__name__}"
        )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG}: cannot be read ({error})") from error
    return config if isinstance(config, dict) else {}
