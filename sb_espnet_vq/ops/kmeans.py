"""k-means over the frames of all ranks, to initialize a codebook."""

import torch
from torch import Tensor

from sb_espnet_vq.ops.collectives import copy_from_first_rank_
from sb_espnet_vq.ops.ema import code_sums
from sb_espnet_vq.ops.frames import Frames, take_frames
from sb_espnet_vq.ops.nearest import nearest_code


def kmeans(frames: Frames, size: int, iterations: int) -> tuple[Tensor, Tensor]:
    """Run Lloyd's algorithm, initialized with random frames.

    All ranks end with the same centres, which equal those of one process with all
    frames. A centre without frames does not move. The number of frames is read on the
    host, which synchronizes with the device.

    Arguments
    ---------
    frames : Frames
        At least one valid frame over all ranks.
    size : int
        Number of centres. If there are fewer frames, some are used more than once.
    iterations : int
        Number of assignment and averaging steps.

    Returns
    -------
    centres : torch.Tensor
        (size, D).
    counts : torch.Tensor
        (size,) number of frames of each centre in the last assignment.

    Example
    -------
    >>> from sb_espnet_vq.ops.frames import flat_frames
    >>> x = torch.tensor([[0.0], [0.2], [5.0], [5.2]])
    >>> centres, counts = kmeans(flat_frames(x), 2, 10)
    >>> centres.sort(0).values.squeeze(), counts
    (tensor([0.1000, 5.1000]), tensor([2., 2.]))
    """
    x = _without_tiny(frames.x.detach())
    frames = frames._replace(x=x)
    centres = take_frames(frames, _first_centres(frames, size))
    counts = x.new_zeros(size)
    for _ in range(iterations):
        codes = nearest_code(x, centres)
        counts, sums = map(frames.total, code_sums(x, codes, frames.valid, size))
        means = sums / counts.clamp(min=1)[:, None]
        centres = torch.where(counts[:, None] > 0, means, centres)
    return centres, counts


def _first_centres(frames: Frames, size: int) -> Tensor:
    total = int(frames.n_valid)
    device = frames.x.device
    if total >= size:
        index = torch.randperm(total, device=device)[:size]
    else:
        index = torch.randint(0, total, (size,), device=device)
    return copy_from_first_rank_(index) if frames.shared else index


def _without_tiny(x: Tensor) -> Tensor:
    # Their squares are subnormal, which a CPU multiplies up to a hundred times slower.
    # Residuals of frames that earlier codebooks represent exactly are that small.
    return torch.where(x.abs() < torch.finfo(x.dtype).tiny ** 0.5, 0, x)
