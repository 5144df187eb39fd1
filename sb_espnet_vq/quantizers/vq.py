"""`vq`: one codebook."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import NOTHING, Quantized, Quantizer
from sb_espnet_vq.quantizers.codebooks import build_codebook, with_codebook_options
from sb_espnet_vq.quantizers.estimators import ESTIMATORS, find_estimator
from sb_espnet_vq.quantizers.levels import decode_level, projections, run_level
from sb_espnet_vq.quantizers.options import (
    in_range,
    one_of,
    positive_int,
    true_or_false,
)
from sb_espnet_vq.quantizers.precision import project


class VQ(Quantizer):
    """Vector quantizer with one codebook.

    van den Oord et al. 2017, https://arxiv.org/abs/1711.00937, equation 3. By default
    the codebook learns by moving averages (appendix A.1), with k-means initialization
    and replacement of dead codes as in SoundStream, Zeghidour et al. 2021,
    https://arxiv.org/abs/2107.03312, section III-C.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Number of codes.
    code_dim : int, optional
        Width of the codebook, between learned projections if it differs from ``dim``.
        Default: ``dim``.
    commitment_weight : float
        Weight of the commitment loss: mean squared distance between frames and
        their codebook vectors, with gradient only to the frames.
    codebook : str
        How the vectors learn: ``ema`` (moving averages), ``gradient`` (parameters),
        ``simvq`` (fixed random vectors behind a learned linear map) or ``frozen`` (not
        at all). Each has options of its own, which follow below.
    metric : str
        ``euclidean`` or ``cosine``, of the search only.
    estimator : str
        Gradient of the lookup: ``ste`` (straight-through), ``rotation`` (Fifty et al.
        2024, https://arxiv.org/abs/2410.06424), or, with noise on the values in
        training and a gradient to the codebook, ``nsvq`` (Vali and Bäckström 2022) or
        ``diveq`` (Vali et al. 2025, https://arxiv.org/abs/2509.26469). The papers of
        the last two use no other loss: set both weights to 0.
    frozen : bool
        No updates in training; gradients still reach the frames.
    decay : float
        ``ema``: decay of the moving averages, in [0, 1]. Default: 0.99.
    threshold_ema_dead_code : float
        ``ema``: replace codes that represent fewer frames per batch than this, on
        average over batches, and fewer than a tenth of the mean over codes. 0 disables
        it. Default: 2.
    kmeans_init : bool
        Initialize the codebook by k-means over the first training batch. Default:
        true for ``ema``, false for the others.
    kmeans_iters : int
        Iterations of k-means. Default: 50.
    codebook_weight : float
        ``gradient``, ``simvq``: weight of the mean squared distance of the vectors to
        their (fixed) frames. Default: 1.

    Raises
    ------
    ConfigError
        If an option is out of range, or one that the codebook does not have.

    Buffers
    -------
    Those of the codebook; see `EMACodebook` for the default.

    Example
    -------
    >>> import torch
    >>> q = VQ(dim=8, codebook_size=16)
    >>> out = q(torch.randn(2, 100, 8))
    >>> out.quantized.shape, out.codes.shape
    (torch.Size([2, 100, 8]), torch.Size([2, 100, 1]))
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        code_dim: int | None = None,
        commitment_weight: float = 1.0,
        codebook: str = "ema",
        metric: str = "euclidean",
        estimator: str = "ste",
        frozen: bool = False,
        **codebook_options: Any,
    ):
        super().__init__(dim, codebook_size)
        code_dim = dim if code_dim is None else positive_int("code_dim", code_dim)
        weight = in_range("commitment_weight", commitment_weight, 0, float("inf"))
        self.estimator = one_of("estimator", estimator, ESTIMATORS)
        self.adds_noise = ESTIMATORS[estimator].at_end is not None
        self.project_in, self.project_out = projections(dim, code_dim)
        self._codebook = build_codebook(
            codebook, code_dim, codebook_size, metric, codebook_options
        )
        self.loss_weights = {"commitment": weight, **self._codebook.loss_weights}
        if true_or_false("frozen", frozen):
            self.requires_grad_(False)

    @classmethod
    def options(
        cls, given: Mapping[str, Any] = NOTHING
    ) -> dict[str, inspect.Parameter]:
        """Return the options of the constructor and of the codebook."""
        return with_codebook_options(super().options(given), given)

    def _quantize(self, frames: Frames) -> Quantized:
        estimator = find_estimator(self.estimator, self.training)
        layers = self.project_in, self._codebook, self.project_out
        level = run_level(layers, frames, frames.x, estimator, self.learning)
        value = level.value
        if estimator.at_end is not None:
            value = estimator.at_end(frames.x, value)
        terms = {name: frames.mean(each) for name, each in level.terms.items()}
        counts = None if level.found.counts is None else level.found.counts[None]
        return Quantized(value, level.found.codes[:, None], terms, counts)

    def _search(self, frames: Frames) -> Tensor:
        x = frames.x.to(torch.promote_types(frames.x.dtype, self._codebook.dtype))
        return self._codebook.search(project(self.project_in, x))[:, None]

    def _decode(self, codes: Tensor) -> Tensor:
        return decode_level(self._codebook, self.project_out, codes[:, 0])

    def _set_codebook_vectors(self, vectors: Tensor) -> None:
        if isinstance(self.project_out, nn.Linear):
            super()._set_codebook_vectors(vectors)
        self._codebook.set_vectors(vectors[0])

    def _hold(self, entries: Tensor | None) -> None:
        self._codebook.hold(None if entries is None else entries[0])
