"""k-means over the frames of all ranks, to start a codebook."""

import torch
from torch import Tensor

from sb_espnet_vq.ops.collectives import copy_from_first_rank_
from sb_espnet_vq.ops.ema import code_sums
from sb_espnet_vq.ops.frames import Frames, take_frames
from sb_espnet_vq.ops.nearest import nearest_code


def kmeans(frames: Frames, size: int, iterations: int) -> tuple[Tensor, Tensor]:
    """Run Lloyd's algorithm from randomly drawn frames.

    All ranks end with the same centres, those of one process with all frames.
    A centre that loses its frames stays where it is. Reads the number of frames
    on the host.

    Arguments
    ---------
    frames : Frames
        At least one valid frame over all ranks.
    size : int
        Number of centres. With fewer frames than that, frames repeat.
    iterations : int
        Rounds of assignment and averaging.

    Returns
    -------
    centres : torch.Tensor
        (size, D).
    counts : torch.Tensor
        (size,) frames of each centre in the last assignment.

    Example
    -------
    >>> from sb_espnet_vq.ops.frames import flat_frames
    >>> x = torch.tensor([[0.0], [0.2], [5.0], [5.2]])
    >>> centres, counts = kmeans(flat_frames(x), 2, 10)
    >>> centres.sort(0).values.squeeze(), counts
    (tensor([0.1000, 5.1000]), tensor([2., 2.]))
    """
    x = frames.x.detach()
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
