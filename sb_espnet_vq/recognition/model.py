"""The network of a recognizer between its input and CTC."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


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
    >>> import torch
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
        self.lstm = nn.LSTM(
            input_size,
            hidden_size,
            num_layers,
            batch_first=True,
            # torch warns of dropout between the layers of one layer.
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=True,
        )
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
        packed = pack_padded_sequence(
            self.dropout(self.norm(frames)), lengths.cpu(), True, enforce_sorted=False
        )
        hidden, _ = self.lstm(packed)
        padded, _ = pad_packed_sequence(hidden, True, total_length=frames.shape[1])
        return self.output(padded).float().log_softmax(-1)
