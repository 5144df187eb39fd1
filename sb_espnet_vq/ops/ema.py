"""Codebooks updated by exponential moving averages of their frames.

van den Oord et al. 2017, "Neural Discrete Representation Learning", appendix A.1.
"""

import torch
from torch import Tensor

# Average count of a rarely used code; count and sum of frames below which float32 loses
# precision.
_FEW, _VANISHED, _VANISHED_SUM = 5e-3, 1e-30, 1e-20


def code_sums(
    x: Tensor, codes: Tensor, valid: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Count the valid frames of each code and sum them.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) frames.
    codes : torch.Tensor
        (N,) int64 in [0, size).
    valid : torch.Tensor
        (N,) bool, False for frames to ignore.
    size : int
        Number of codes.

    Returns
    -------
    counts : torch.Tensor
        (size,) in the dtype of ``x``.
    sums : torch.Tensor
        (size, D).

    Example
    -------
    >>> x = torch.tensor([[1.0], [2.0], [5.0]])
    >>> valid = torch.tensor([True, True, False])
    >>> code_sums(x, torch.tensor([0, 0, 1]), valid, 2)
    (tensor([2., 0.]), tensor([[3.],
            [0.]]))
    """
    # Invalid frames are added to an extra row, which is cheaper than multiplying all
    # frames by their weights.
    row = torch.where(valid, codes, size)
    counts = x.new_zeros(size + 1).index_add_(0, row, torch.ones_like(x[:, 0]))
    sums = x.new_zeros(size + 1, x.shape[1]).index_add_(0, row, x)
    return counts[:size], sums[:size]


def ema_update_(average: Tensor, new: Tensor, decay: float, update: Tensor) -> None:
    """Move ``average`` towards ``new``: decay * average + (1 - decay) * new.

    Arguments
    ---------
    average : torch.Tensor
        Any shape, changed in place.
    new : torch.Tensor
        The same shape; zero where ``update`` is False.
    decay : float
        In [0, 1].
    update : torch.Tensor
        () bool; if False nothing changes. A tensor, so that the host need not
        synchronize with the device.

    Example
    -------
    >>> average = torch.ones(2)
    >>> ema_update_(average, torch.zeros(2), 0.9, torch.tensor(True))
    >>> average
    tensor([0.9000, 0.9000])
    """
    full = torch.full((), decay, dtype=average.dtype, device=average.device)
    average.mul_(torch.where(update, full, 1))
    average.add_(new.to(average.dtype), alpha=1 - decay)


def smoothed_means(
    sums: Tensor, counts: Tensor, vectors: Tensor, epsilon: float = 1e-5
) -> Tensor:
    """Divide sums by counts after Laplace smoothing of the counts.

    Smoothing keeps the total and adds at most epsilon to each count. The sum and count
    of an unused code decay to zero together, so that smoothing would pull its vector
    to the origin. Therefore counts below 0.005 are not smoothed, and a vector whose
    sum and count have vanished does not change.

    Arguments
    ---------
    sums : torch.Tensor
        (V, D).
    counts : torch.Tensor
        (V,), not negative.
    vectors : torch.Tensor
        (V, D) current codebook vectors.
    epsilon : float
        Added to each count.

    Returns
    -------
    torch.Tensor
        (V, D).

    Example
    -------
    >>> vectors = torch.tensor([[9.0], [9.0], [9.0]])
    >>> sums = torch.tensor([[2.0], [6.0], [0.0]])
    >>> counts = torch.tensor([1.0, 3.0, 0.0])
    >>> smoothed_means(sums, counts, vectors)
    tensor([[2.0000],
            [2.0000],
            [9.0000]])
    """
    total = counts.sum()
    scale = torch.where(total > 0, total / (total + len(counts) * epsilon), 1)
    smoothed = (counts + epsilon) * scale
    unused = (counts < _FEW) & (counts > _VANISHED)
    means = sums / torch.where(unused, counts, smoothed)[:, None]
    vanished = (counts <= _VANISHED) & (sums.abs().amax(1) <= _VANISHED_SUM)
    return torch.where(vanished[:, None], vectors, means)
