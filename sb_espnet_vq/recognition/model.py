"""The network of a recognizer between its input and CTC."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BidirectionalLSTM(nn.Module):
    """One LSTM layer in each direction, for padded batches.

    The rows are reversed within their lengths, so that the padding follows the frames
    in both directions. torch's packed sequences do this too, but training with them
    takes several times as long on a CPU.

    Arguments
    ---------
    input_size : int
        Size of a frame.
    hidden_size : int
        Units in each direction.

    Example
    -------
    >>> lstm = BidirectionalLSTM(6, 4)
    >>> lstm(torch.randn(2, 9, 6), torch.tensor([9, 3])).shape
    torch.Size([2, 9, 8])
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.ahead = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.back = nn.LSTM(input_size, hidden_size, batch_first=True)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the states (B, T, 2 * hidden_size) of frames (B, T, input_size)."""
        steps = torch.arange(frames.shape[1], device=frames.device)
        ends = lengths[:, None]
        order = torch.where(steps < ends, ends - 1 - steps, steps)
        ahead, _ = self.ahead(frames)
        back, _ = self.back(_in_order(frames, order))
        return torch.cat([ahead, _in_order(back, order)], -1)


class Recognizer(nn.Module):
    """Bidirectional LSTM that outputs log-probabilities of units for CTC.

    Small, so that a result depends on the frames that it gets.

    Arguments
    ---------
    input_size : int
        Size of a frame.
    n_units : int
        Number of outputs, with the blank.
    hidden_size : int
        Units of the LSTM in each direction.
    num_layers : int
        Layers of the LSTM.
    dropout : float
        On the input of the LSTM and between its layers.

    Example
    -------
    >>> recognizer = Recognizer(6, 11, hidden_size=4, num_layers=1)
    >>> recognizer(torch.randn(2, 9, 6), torch.tensor([9, 3])).shape
    torch.Size([2, 9, 11])
    """

    def __init__(
        self,
        input_size: int,
        n_units: int,
        hidden_size: int = 128,
        num_layers: int = 2,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.norm = nn.LayerNorm(input_size)
        self.dropout = nn.Dropout(dropout)
        sizes = [input_size] + [2 * hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(BidirectionalLSTM(n, hidden_size) for n in sizes)
        self.output = nn.Linear(2 * hidden_size, n_units)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return log-probabilities of the units.

        Arguments
        ---------
        frames : torch.Tensor
            (B, T, input_size) float.
        lengths : torch.Tensor
            (B,) int64, frames without padding, at least 1.

        Returns
        -------
        torch.Tensor
            (B, T, n_units) float32. The padding affects no other frame.
        """
        hidden = self.norm(frames)
        for layer in self.layers:
            hidden = layer(self.dropout(hidden), lengths)
        return self.output(hidden).float().log_softmax(-1)


def _in_order(frames: Tensor, order: Tensor) -> Tensor:
    """Take the frames of each row in another order, (B, T)."""
    return frames.gather(1, order[..., None].expand(-1, -1, frames.shape[2]))
