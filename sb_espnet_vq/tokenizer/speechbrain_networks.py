"""The networks of encoders as classes of SpeechBrain and torch alone.

SpeechBrain lacks two front ends of this package. Stacks of frames become a strided
convolution whose kernel is an identity, and normalized log-mel latents become the
features and such a convolution, which also subtracts the mean and divides by the
standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer

_OURS = "sb_espnet_vq."
_LOG_MELS = "sb_espnet_vq.ssl.front_ends.LogMelFrontEnd"
_STACK = "sb_espnet_vq.ssl.front_ends.StackFrames"
_SEQUENTIAL = "speechbrain.nnet.containers.Sequential"


class Network(NamedTuple):
    """A network of SpeechBrain.

    tree : what `speechbrain_yaml.write_yaml` writes; state : what its Pretrainer loads,
    tensors or text, empty if there is nothing to load.
    """

    tree: dict[str, Any]
    state: Any


def best_rq(tokenizer: AudioTokenizer) -> dict[str, Network]:
    """Return the networks under the names that SpeechBrain's CTC recipe gives them."""
    model: Any = tokenizer.model
    options = tokenizer.config["options"]
    # The statistics are final, and one tensor is expected from the encoder.
    normalize = with_options(options["normalize"], update_until_epoch=0)
    transformer = options["encoder"]["options"]["transformer"]
    transformer = with_options(transformer, output_hidden_states=False)
    # The count only needs to be above 0.
    statistics = {
        "count": int(len(model.mean) > 0),
        "glob_mean": model.mean.cpu().clone(),
        "glob_std": model.std.cpu().clone(),
    }
    front_end = Network(options["front_end"], state_of(model.front_end))
    if front_end.tree["class"] == _STACK:
        front_end = _stack(model.front_end.stack, torch.ones(_mels(model)))
    return {
        "compute_features": Network(options["compute_features"], {}),
        "normalize": Network(normalize, statistics),
        "CNN": front_end,
        "enc": Network(
            with_options(options["encoder"], transformer=transformer),
            state_of(model.encoder),
        ),
    }


def whole_stacks(tokenizer: AudioTokenizer) -> dict[str, Network]:
    """Return what leaves out the frames after the last whole stack of BEST-RQ.

    Front ends of SpeechBrain need it; stacking them leaves them out anyway.
    """
    if tokenizer.config["options"]["front_end"]["class"] == _STACK:
        return {}
    model: Any = tokenizer.model
    mels = _mels(model)
    stack = _stack(model.stack, torch.ones(mels))
    shape = {"dim": 2, "unflattened_size": [model.stack, mels]}
    parts = {
        "stack": stack.tree,
        "unstack": {"class": "torch.nn.Unflatten", "options": shape},
        "join": {
            "class": "torch.nn.Flatten",
            "options": {"start_dim": 1, "end_dim": 2},
        },
    }
    state = {f"stack.{key}": value for key, value in stack.state.items()}
    return {
        "whole_stacks": Network({"class": _SEQUENTIAL, "options": parts}, state),
    }


def wav2vec2(tokenizer: AudioTokenizer) -> dict[str, Network]:
    """Return the networks under the names that SpeechBrain's CTC recipe gives them."""
    options = tokenizer.config["options"]
    model: Any = tokenizer.model
    tree = options["front_end"]
    if tree["class"] == _LOG_MELS:
        extractor = _log_mels(tree, model.front_end)
    else:
        inner = tree["options"]["extractor"]
        extractor = Network(inner, state_of(model.front_end.extractor))
    wrapper = dict(options["latent_encoder"]["options"])
    # Ours differs from the default only in its length, and not in checkpoints.
    wrapper.pop("positional_encoding", None)
    encoder = Network(wrapper["latent_encoder"], {})
    wrapper["latent_encoder"] = {"ref": "encoder"}
    tree = options["latent_encoder"] | {"options": wrapper}
    return {
        "extractor": extractor,
        "encoder": encoder,
        "encoder_wrapper": Network(tree, state_of(model.latent_encoder)),
    }


_NETWORKS: dict[str, Callable[[AudioTokenizer], dict[str, Network]]] = {
    "best_rq": best_rq,
    "wav2vec2": wav2vec2,
}


def networks_of(tokenizer: AudioTokenizer) -> dict[str, Network]:
    """Return the networks of an encoder in the order in which they are called.

    Arguments
    ---------
    tokenizer : AudioTokenizer
        Of a run of BEST-RQ or wav2vec 2.0.

    Returns
    -------
    dict
        Of `Network`.

    Raises
    ------
    ConfigError
        If it is the tokenizer of a codec, or has a network that SpeechBrain lacks.
    """
    kind = tokenizer.config["kind"]
    if kind not in _NETWORKS:
        raise ConfigError(
            f"this model is a run of {kind}, whose networks SpeechBrain does not have; "
            f"this format holds the encoders of {' and '.join(_NETWORKS)}"
        )
    networks = _NETWORKS[kind](tokenizer)
    for name, network in networks.items():
        _refuse_ours(network.tree, name)
    return networks


def state_of(module: torch.nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Return a copy of a state on the CPU, with a prefix for its keys."""
    state = module.state_dict().items()
    return {f"{prefix}{key}": value.cpu().clone() for key, value in state}


def _log_mels(tree: dict[str, Any], front_end: Any) -> Network:
    normalize = front_end.normalize
    stack = _stack(
        front_end.stack_frames.stack, 1 / normalize.std, -normalize.mean / normalize.std
    )
    features = tree["options"]["compute_features"]
    parts = {"compute_features": features, "stack": stack.tree}
    state = state_of(front_end.compute_features, "compute_features.")
    state |= {f"stack.{key}": value for key, value in stack.state.items()}
    return Network({"class": _SEQUENTIAL, "options": parts}, state)


def _mels(model: Any) -> int:
    return model.compute_features(torch.zeros(1, model.sample_rate)).shape[2]


def _stack(size: int, scale: Tensor, shift: Tensor | None = None) -> Network:
    """Return a convolution (B, T, D) to (B, T // size, size * D).

    `scale` and `shift` (D,) are multiplied with and added to each frame.
    """
    width = len(scale)
    options = {
        "in_channels": width,
        "out_channels": size * width,
        "kernel_size": size,
        "stride": size,
        "padding": "valid",
        "bias": shift is not None,
    }
    # Output (position, feature), input (position, feature).
    identity = torch.eye(size * width).view(size * width, size, width)
    weight = (identity * scale.cpu()).transpose(1, 2).contiguous()
    state = {"conv.weight": weight}
    if shift is not None:
        state["conv.bias"] = shift.cpu().repeat(size)
    return Network({"class": "speechbrain.nnet.CNN.Conv1d", "options": options}, state)


def with_options(node: dict[str, Any], **options: Any) -> dict[str, Any]:
    return node | {"options": node["options"] | options}


def _refuse_ours(tree: Any, place: str) -> None:
    """Raise ConfigError if a class of this package is left."""
    if isinstance(tree, dict):
        path = tree.get("class") or tree.get("partial") or ""
        if isinstance(path, str) and path.startswith(_OURS):
            raise ConfigError(
                f"{place} is {path.rpartition('.')[2]}, which SpeechBrain does not have"
            )
        for each in tree.values():
            _refuse_ours(each, place)
