"""k-means over a stream of frames, with scikit-learn's minibatches.

scikit-learn has the k-means++ start and the reassignment of centres that lose their
frames, and its models are what the toolkits load. Here are the stages over residuals,
and a stream that is longer than memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError, CorpusError
from sb_espnet_vq.ops.nearest import nearest_code

BATCH = 8192


def pool_size(codebook_size: int, dim: int) -> int:
    """Return the frames to start from: up to 128 MiB, at least ten for each centre.

    Example
    -------
    >>> pool_size(1024, 80)
    131072
    """
    return max(10 * codebook_size, min(16 * BATCH, 2**25 // dim))


def start(frames: Tensor, codebook_size: int, n_codebooks: int, seed: int) -> Tensor:
    """Return centres of frames in memory, from a k-means++ start, stage by stage.

    Arguments
    ---------
    frames : torch.Tensor
        (N, D) float32.
    codebook_size, n_codebooks, seed : int

    Returns
    -------
    torch.Tensor
        (n_codebooks, codebook_size, D).

    Raises
    ------
    CorpusError
        If there are fewer frames than centres.
    """
    if len(frames) < codebook_size:
        raise CorpusError(
            f"{len(frames)} frames are too few for {codebook_size} centres: give more "
            "data or a smaller --codebook_size"
        )
    stages = []
    for k in range(n_codebooks):
        model = _model(codebook_size, seed + k, init="k-means++", batch_size=BATCH)
        stages.append(_centres(model.fit(frames.numpy())))
        frames = residual(frames, stages[-1])
    return torch.stack(stages)


def refine(pools: Iterable[Tensor], centres: Tensor, seed: int) -> list[Any]:
    """Fit models to a stream, starting at centres.

    Arguments
    ---------
    pools : iterable of torch.Tensor
        Each (N, D) float32.
    centres : torch.Tensor
        (K, V, D).
    seed : int

    Returns
    -------
    list
        A ``MiniBatchKMeans`` for each codebook.
    """
    models = [
        _model(len(each), seed + k, init=each.numpy()) for k, each in enumerate(centres)
    ]
    # scikit-learn needs a frame for each centre in the first batch.
    batch_size = max(BATCH, centres.shape[1])
    for pool in pools:
        for batch in pool.split(batch_size):
            for model in models:
                model.partial_fit(batch.numpy())
                batch = residual(batch, _centres(model))
    return models


def stack_centres(models: Iterable[Any]) -> Tensor:
    """Return the centres (K, V, D) of fitted models."""
    return torch.stack([_centres(model) for model in models])


def residual(frames: Tensor, centres: Tensor) -> Tensor:
    """Return what the nearest centres leave of frames.

    Example
    -------
    >>> residual(torch.tensor([[2.5, 1.0]]), torch.tensor([[0.0, 0.0], [2.0, 1.0]]))
    tensor([[0.5000, 0.0000]])
    """
    return frames - centres[nearest_code(frames, centres)]


def distortion(
    pools: Iterable[Tensor], centres: Tensor
) -> Iterator[tuple[float, float, float]]:
    """Yield, for the first codebook, the first two, ..., how well they describe frames.

    Arguments
    ---------
    pools : iterable of torch.Tensor
        Each (N, D) float32.
    centres : torch.Tensor
        (K, V, D).

    Yields
    ------
    error : float
        Mean squared distance of a frame.
    snr : float
        Variance of the frames over the error, in dB.
    perplexity : float
        Codes in effective use: the exponential of the entropy of their frequencies.

    Raises
    ------
    CorpusError
        If there are no frames.
    """
    count, total, square = 0, torch.zeros(()), 0.0
    errors, uses = [0.0] * len(centres), torch.zeros(centres.shape[:2])
    for frames in pools:
        count += len(frames)
        total = total + frames.double().sum(0)
        square += float(frames.double().square().sum())
        for k, each in enumerate(centres):
            codes = nearest_code(frames, each)
            uses[k] += codes.bincount(minlength=len(each))
            frames = frames - each[codes]
            errors[k] += float(frames.double().square().sum())
    if not count:
        raise CorpusError("the utterances that are held out have no frames")
    variance = square / count - float((total / count).square().sum())
    for error, use in zip(errors, uses, strict=True):
        share = use / use.sum()
        perplexity = float(torch.special.entr(share).sum().exp())
        error /= count
        snr = 10 * torch.tensor(variance / error).log10() if error else float("inf")
        yield error, float(snr), perplexity


def _centres(model: Any) -> Tensor:
    return torch.from_numpy(model.cluster_centers_).float()


def _model(codebook_size: int, seed: int, **options: Any) -> Any:
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "sklearn":
            raise
        raise ConfigError(
            "k-means needs scikit-learn, which is not installed: "
            "pip install 'sb_espnet_vq[formats]'"
        ) from error
    return MiniBatchKMeans(codebook_size, random_state=seed, n_init=1, **options)
