"""The input of a recognizer that some hyperparameters select."""

from __future__ import annotations

from typing import Any

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.recognition.base import Input, LogMelInput
from sb_espnet_vq.recognition.encoder_input import EncoderInput, with_new_weights
from sb_espnet_vq.recognition.token_input import TokenInput
from sb_espnet_vq.tokenizer.models import load_tokenizer


def make_input(
    front_end: Any,
    width: int,
    pretrained: str | None = None,
    untrained: bool = False,
    encoder_use: str = "frozen",
    tokens: str | None = None,
    token_codebooks: int | None = None,
    token_stack: int = 1,
    token_embedding: str = "codebook",
) -> Input:
    """Return the input that some hyperparameters select.

    Arguments
    ---------
    front_end : LogMelFrontEnd
        Used without ``pretrained`` and without ``tokens``.
    width : int
        Size of a frame of tokens.
    pretrained : str, optional
        A run of BEST-RQ or wav2vec 2.0, or another name for `load_tokenizer`.
    untrained : bool
        Give the encoder of ``pretrained`` new random weights.
    encoder_use : str
        As in `EncoderInput`.
    tokens : str, optional
        A run with a quantizer, or another name for `load_tokenizer`.
    token_codebooks : int, optional
        Use only the first codebooks of ``tokens``.
    token_stack : int
        Frames of tokens in a frame of the input.
    token_embedding : str
        As ``embedding`` of `TokenInput`.

    Returns
    -------
    Input

    Raises
    ------
    ConfigError
        If the options do not fit together.
    CheckpointError
        If the run cannot be loaded.
    """
    if pretrained and tokens:
        raise ConfigError("give one of pretrained and tokens: there is one input")
    if not pretrained and (untrained or encoder_use != "frozen"):
        raise ConfigError(
            "untrained and encoder_use are about an encoder: give its run to pretrained"
        )
    if not tokens and token_codebooks is not None:
        raise ConfigError("token_codebooks needs a run with a quantizer in tokens")
    if tokens:
        tokenizer = load_tokenizer(tokens)
        return TokenInput(
            tokenizer, width, token_codebooks, token_stack, token_embedding
        )
    if not pretrained:
        return LogMelInput(front_end)
    tokenizer = load_tokenizer(pretrained)
    if untrained:
        source = EncoderInput(with_new_weights(tokenizer), encoder_use)
        source.name = f"untrained {source.name}"
        return source
    return EncoderInput(tokenizer, encoder_use)
