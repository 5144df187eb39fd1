"""Positional encoding for long utterances."""

from typing import Any

from speechbrain.lobes.models.transformer.Transformer import PositionalEncoding

# Default number of positions of SpeechBrain's class.
_SAVED = 2500


class LongPositionalEncoding(PositionalEncoding):
    """SpeechBrain's sinusoidal positional encoding with compatible checkpoints.

    The table is constant. Checkpoints contain only SpeechBrain's default number of
    positions, so that they load into models with SpeechBrain's class.

    Arguments
    ---------
    input_size : int
        Width of the frames, even.
    max_len : int
        Frames of the longest utterance.

    Example
    -------
    >>> import torch
    >>> positions = LongPositionalEncoding(8)
    >>> positions(torch.zeros(1, 9000, 8)).shape
    torch.Size([1, 9000, 8])
    >>> positions.state_dict()["pe"].shape
    torch.Size([1, 2500, 8])
    """

    def __init__(self, input_size: int, max_len: int = 30000):
        super().__init__(input_size, max_len)
        self.register_state_dict_post_hook(_shorten)
        self.register_load_state_dict_pre_hook(_keep)


def _shorten(module: Any, state: dict[str, Any], prefix: str, *_) -> None:
    # A copy: saving a view would save the whole table.
    state[f"{prefix}pe"] = module.pe[:, :_SAVED].clone()


def _keep(module: Any, state: dict[str, Any], prefix: str, *_) -> None:
    state[f"{prefix}pe"] = module.pe
