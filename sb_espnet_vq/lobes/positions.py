"""Positions of frames in long utterances."""

from typing import Any

from speechbrain.lobes.models.transformer.Transformer import PositionalEncoding

# Positions that SpeechBrain's own class has unless it is told otherwise.
_SAVED = 2500


class LongPositionalEncoding(PositionalEncoding):
    """SpeechBrain's sinusoidal positions, for long speech in checkpoints for short.

    The table is a constant. In a checkpoint it is as long as SpeechBrain's own default,
    so that a model trained with this class loads into one with that.

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
    # A copy: a view would be saved with the whole table behind it.
    state[f"{prefix}pe"] = module.pe[:, :_SAVED].clone()


def _keep(module: Any, state: dict[str, Any], prefix: str, *_) -> None:
    state[f"{prefix}pe"] = module.pe
