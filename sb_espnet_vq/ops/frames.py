"""Valid frames of a batch (finite and not padding), on one rank or over all ranks."""

from typing import NamedTuple

import torch
from torch import Tensor

from sb_espnet_vq.ops.collectives import (
    copy_from_first_rank_,
    gather_from_ranks,
    sum_over_ranks,
    sum_over_ranks_with_grad,
    world_size,
)
from sb_espnet_vq.ops.devices import eager_on_cpu
from sb_espnet_vq.ops.distance import mean_square


class Frames(NamedTuple):
    """A flattened batch in which all invalid frames are zero.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) float32 or float64; rows that are not valid are zero and carry no
        gradient.
    valid : torch.Tensor
        (N,) bool, True where a frame is not padding and finite.
    weight : torch.Tensor
        (N,) ``valid`` as 0 and 1, in the dtype of ``x``.
    n_valid : torch.Tensor
        () int64, the number of valid frames (over all ranks if ``shared``).
    offset : torch.Tensor
        () int64, number of valid frames on lower ranks.
    shared : bool
        True if other ranks hold further parts of the batch and call the same
        collectives.
    labels : torch.Tensor, optional
        (B,) int64 with N a multiple of B.
    n_codebooks : int, optional
        How many codebooks to use, of a quantizer with several; None for all.
    n_utterances : int
        Utterances, of equally many rows each.
    kept : torch.Tensor, optional
        (N, n_codebooks) bool, the codebooks that each frame keeps, if a quantizer
        around the current one has drawn them.
    all_valid : bool
        True if every row is known to be valid, so that none has to be set to zero;
        False if some are not, or if checking would synchronize with a device.
    """

    x: Tensor
    valid: Tensor
    weight: Tensor
    n_valid: Tensor
    offset: Tensor
    shared: bool
    labels: Tensor | None = None
    all_valid: bool = False
    n_codebooks: int | None = None
    n_utterances: int = 1
    kept: Tensor | None = None

    def total(self, x: Tensor) -> Tensor:
        """Return ``x`` summed over ranks, without gradient."""
        return sum_over_ranks(x) if self.shared else x

    # Not a property: torch before 2.11 cannot trace properties of named tuples.
    def share(self) -> Tensor:
        """Weight of a frame in `mean`: number of ranks / number of valid frames."""
        ranks = world_size() if self.shared else 1
        return ranks / self.n_valid.clamp(min=1).to(self.weight.dtype)

    def mean(self, per_frame: Tensor) -> Tensor:
        """Return the mean over the valid frames of all ranks, as DDP needs it.

        Each rank contributes its own frames times the number of ranks, so that
        DDP's average over ranks is the mean over all frames. Zero, with a graph, if
        there is no valid frame.

        Arguments
        ---------
        per_frame : torch.Tensor
            (N,) values.

        Returns
        -------
        torch.Tensor
            Scalar.
        """
        return (per_frame * self.weight).sum() * self.share()

    def mean_square(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean of (x - y)^2 over frames and dims, as `mean` does.

        Arguments
        ---------
        x, y : torch.Tensor
            (N, D).

        Returns
        -------
        torch.Tensor
            Scalar.
        """
        return self.mean(mean_square(x - y))

    def mean_of_sum(self, summed: Tensor) -> Tensor:
        """Turn sums over each rank's valid frames into the mean over all ranks.

        The gradient, averaged over ranks by DDP, is that of one process. Every rank
        must compute the same function of the result.

        Arguments
        ---------
        summed : torch.Tensor
            Any shape, a sum over valid frames.

        Returns
        -------
        torch.Tensor
            The mean over the valid frames of all ranks; 0 if there is none.
        """
        if self.shared:
            summed = sum_over_ranks_with_grad(summed)
        return summed / self.n_valid.clamp(min=1)


def flat_frames(
    x: Tensor,
    mask: Tensor | None = None,
    labels: Tensor | None = None,
    shared: bool = False,
) -> Frames:
    """Flatten a batch to frames and set invalid rows to zero.

    Arguments
    ---------
    x : torch.Tensor
        (..., D) float.
    mask : torch.Tensor, optional
        (...) bool, False at padding.
    labels : torch.Tensor, optional
        (B,) int64.
    shared : bool
        Count over all ranks, each of which must call this function.

    Returns
    -------
    Frames

    Example
    -------
    >>> frames = flat_frames(torch.tensor([[1.0, 2.0], [float("nan"), 0.0]]))
    >>> frames.valid
    tensor([ True, False])
    >>> frames.x
    tensor([[1., 2.],
            [0., 0.]])
    """
    flat = x.reshape(-1, x.shape[-1])
    if flat.dtype != torch.float64:
        flat = flat.float()
    valid = _finite_rows_quickly(flat)
    if mask is not None:
        valid = valid & mask.reshape(-1)
    all_valid = eager_on_cpu(valid) and bool(valid.all())
    if not all_valid:
        flat = torch.where(valid[:, None], flat, 0)
    here = valid.sum()
    count, offset = here, torch.zeros_like(here)
    if shared:
        counts = gather_from_ranks(here)
        count = counts.sum()
        offset = counts[: torch.distributed.get_rank()].sum()
    weight = valid.to(flat.dtype)
    return Frames(flat, valid, weight, count, offset, shared, labels, all_valid)


def _finite_rows_quickly(x: Tensor) -> Tensor:
    # One fast pass where nearly all batches are finite. A finite sum implies finite
    # values; the reverse does not hold, since a sum may overflow.
    if eager_on_cpu(x.detach()) and bool(x.detach().sum().isfinite()):
        return torch.ones(len(x), dtype=torch.bool)
    return finite_rows(x)


def finite_rows(x: Tensor) -> Tensor:
    """Return which rows contain neither infinity nor NaN.

    Arguments
    ---------
    x : torch.Tensor
        (..., D) float.

    Returns
    -------
    torch.Tensor
        (...) bool.

    Example
    -------
    >>> finite_rows(torch.tensor([[1.0, 2.0], [float("nan"), 0.0]]))
    tensor([ True, False])
    """
    x = x.detach()
    # Maximum and minimum are NaN if any value is; neither needs a copy of x.
    return x.amax(-1).isfinite() & x.amin(-1).isfinite()


def take_frames(frames: Frames, index: Tensor) -> Tensor:
    """Return valid frames by their index in the whole batch, on every rank.

    Arguments
    ---------
    frames : Frames
        This rank's part.
    index : torch.Tensor
        (M,) int64 in [0, n_valid), indices into the valid frames of all ranks in
        rank order; the same on every rank.

    Returns
    -------
    torch.Tensor
        (M, D), the same on every rank.

    Example
    -------
    >>> frames = flat_frames(torch.tensor([[1.0], [float("inf")], [3.0]]))
    >>> take_frames(frames, torch.tensor([1, 0]))
    tensor([[3.],
            [1.]])
    """
    x = frames.x.detach()
    if x.shape[0] == 0:
        rows = x.new_zeros(len(index), x.shape[1])
    else:
        seen = frames.valid.cumsum(0)
        nth = index - frames.offset + 1
        row = torch.searchsorted(seen, nth).clamp(max=x.shape[0] - 1)
        here = (nth > 0) & (nth <= seen[-1])
        rows = torch.where(here[:, None], x[row], 0)
    return frames.total(rows)


def draw_numbers(frames: Frames, size: int) -> Tensor:
    """Draw frame indices spread evenly over the whole batch, in random order.

    The valid frames are divided into ``size`` equal segments and one frame is drawn
    from each (stratified sampling). Frames hardly repeat, and the host need not know
    their number. Rank 0 draws for all ranks.

    Arguments
    ---------
    frames : Frames
        At least one valid frame over all ranks; otherwise the result is zeros.
    size : int
        Number of indices.

    Returns
    -------
    torch.Tensor
        (size,) int64 for `take_frames`, the same on every rank.

    Example
    -------
    >>> frames = flat_frames(torch.randn(100, 8))
    >>> draw_numbers(frames, 5).sort().values // 20
    tensor([0, 1, 2, 3, 4])
    """
    device = frames.x.device
    segment = torch.randperm(size, device=device)
    position = torch.rand(size, device=device, dtype=torch.float64)
    index = ((segment + position) * (frames.n_valid / size)).long()
    index = torch.minimum(index, (frames.n_valid - 1).clamp(min=0))
    return copy_from_first_rank_(index) if frames.shared else index
