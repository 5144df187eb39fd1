"""Codebook-level dropout: training on a random number of codebooks."""

import torch
from torch import Tensor

from sb_espnet_vq.ops.frames import Frames


def kept_codebooks(frames: Frames, n_codebooks: int, drop: bool) -> Tensor | None:
    """Draw how many of the first codebooks each utterance keeps, at least one.

    Zeghidour et al. 2021, "SoundStream", https://arxiv.org/abs/2107.03312, section
    III-C. All frames of an utterance keep the same codebooks.

    Arguments
    ---------
    frames : Frames
        If ``frames.kept`` is set, a quantizer around this one has drawn already, and
        that is returned.
    n_codebooks : int
        Codebooks in use.
    drop : bool
        Whether to draw.

    Returns
    -------
    torch.Tensor, optional
        (N, n_codebooks) bool; None if all are kept.

    Example
    -------
    >>> from sb_espnet_vq.ops.frames import flat_frames
    >>> frames = flat_frames(torch.randn(6, 4))._replace(n_utterances=2)
    >>> kept = kept_codebooks(frames, 8, drop=True)
    >>> kept.shape, bool(kept[:, 0].all())
    (torch.Size([6, 8]), True)
    """
    if frames.kept is not None or not drop:
        return frames.kept
    device, rows = frames.x.device, frames.x.shape[0]
    utterances = frames.n_utterances
    drawn = torch.randint(1, n_codebooks + 1, (utterances,), device=device)
    drawn = drawn.repeat_interleave(rows // max(utterances, 1), output_size=rows)
    return torch.arange(n_codebooks, device=device) < drawn[:, None]
