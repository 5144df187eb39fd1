"""`rvq`: residual vector quantization, a chain of codebooks."""

import inspect
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import NOTHING, Quantized
from sb_espnet_vq.quantizers.chain import ChainQuantizer
from sb_espnet_vq.quantizers.codebooks import build_codebook, with_codebook_options
from sb_espnet_vq.quantizers.dropout import kept_codebooks
from sb_espnet_vq.quantizers.estimators import ESTIMATORS, find_estimator
from sb_espnet_vq.quantizers.levels import (
    Chained,
    ResidualLevel,
    added,
    run_chain,
    run_plain,
    run_projected,
    search_chain,
)
from sb_espnet_vq.quantizers.options import (
    in_range,
    one_of,
    positive_int,
    true_or_false,
)


class RVQ(ChainQuantizer):
    """Residual vector quantizer.

    Zeghidour et al. 2021, "SoundStream", https://arxiv.org/abs/2107.03312,
    algorithm 1; with ``code_dim`` the factorized form of Kumar et al. 2023,
    https://arxiv.org/abs/2306.06546, section 3.2, whose quantizer in DAC is
    ``codebook: gradient, metric: cosine, code_dim: 8``.

    Gradients. With ``ema`` and ``ste``, the frames get the straight-through gradient of
    the whole chain, which is treated as the identity, and the gradient of each level's
    commitment loss. Output projections get the gradient of the value with the codes
    fixed. Input projections get the gradient of their own level, with a
    straight-through lookup. Otherwise gradients flow through the residuals of all
    levels, as in DAC. ``nsvq`` and ``diveq`` add noise to the sum of all levels, and
    the projections into the codebooks learn only from the commitment loss.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Codes in each codebook.
    n_codebooks : int
        Number of residual levels.
    quantizer_dropout : bool
        In training, quantize each utterance (first axis of the input) with only the
        first levels, a random number from 1 to ``n_codebooks``. The codes of dropped
        levels are returned as -1; their codebooks still learn from all frames.
    code_dim : int, optional
        Width of the codebook vectors. If it differs from ``dim``, each level has
        learned input and output projections. Default: ``dim``.
    commitment_weight : float
        Weight of the commitment loss: mean squared distance between the input of a
        level and its codebook vector, averaged over levels, with gradient only to the
        input.
    codebook : str
        How the vectors learn: ``ema``, ``gradient``, ``simvq`` or ``frozen``, as in
        `VQ`. Each has options of its own, which follow below.
    metric : str
        ``euclidean`` or ``cosine``, of the search only.
    estimator : str
        Gradient of the lookup: ``ste``, ``rotation``, ``nsvq`` or ``diveq``, as in
        `VQ`.
    frozen : bool
        No updates in training, of codebooks or projections; gradients still reach
        the frames.
    decay : float
        ``ema``: decay of the moving averages, in [0, 1]. Default: 0.99.
    threshold_ema_dead_code : float
        ``ema``: replace codes that represent fewer frames per batch than this, on
        average over batches, and fewer than a tenth of the mean over codes. 0 disables
        it. Default: 2.
    kmeans_init : bool
        Initialize each codebook by k-means over the first training batch. Default:
        true for ``ema``, false for the others.
    kmeans_iters : int
        Iterations of k-means. Default: 50.
    codebook_weight : float
        ``gradient``, ``simvq``: weight of the mean squared distance of the vectors to
        their (fixed) frames, averaged over levels. Default: 1.

    Raises
    ------
    ConfigError
        If an option is out of range, or one that the codebook does not have.

    Buffers
    -------
    Those of the codebooks, one for each level; see `EMACodebook` for the default.

    Example
    -------
    >>> import torch
    >>> q = RVQ(dim=8, codebook_size=16, n_codebooks=4)
    >>> x = torch.randn(2, 100, 8)
    >>> q(x).codes.shape
    torch.Size([2, 100, 4])
    >>> q.encode(x, n_codebooks=2).shape
    torch.Size([2, 100, 2])
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        n_codebooks: int = 8,
        quantizer_dropout: bool = False,
        code_dim: int | None = None,
        commitment_weight: float = 1.0,
        codebook: str = "ema",
        metric: str = "euclidean",
        estimator: str = "ste",
        frozen: bool = False,
        **codebook_options: Any,
    ):
        super().__init__(dim, codebook_size, n_codebooks)
        code_dim = dim if code_dim is None else positive_int("code_dim", code_dim)
        weight = in_range("commitment_weight", commitment_weight, 0, float("inf"))
        dropout = true_or_false("quantizer_dropout", quantizer_dropout)
        self.quantizer_dropout = self.draws_codes = dropout
        self.estimator = one_of("estimator", estimator, ESTIMATORS)
        self.adds_noise = ESTIMATORS[estimator].at_end is not None
        # ESPnet's gradients, for which no level needs a graph through its residual.
        self.detached = codebook == "ema" and estimator == "ste"
        self.projected = code_dim != dim
        self.layers = nn.ModuleList()
        for _ in range(n_codebooks):
            sizes = code_dim, codebook_size
            book = build_codebook(codebook, *sizes, metric, codebook_options)
            self.layers.append(ResidualLevel(dim, book))
        own = self._chain(1)[0]._codebook.loss_weights
        self.loss_weights = {"commitment": weight, **own}
        if true_or_false("frozen", frozen):
            self.requires_grad_(False)

    @classmethod
    def options(
        cls, given: Mapping[str, Any] = NOTHING
    ) -> dict[str, inspect.Parameter]:
        """Return the options of the constructor and of the codebooks."""
        return with_codebook_options(super().options(given), given)

    def _quantize(self, frames: Frames) -> Quantized:
        chain = self._chain(frames.n_codebooks)
        kept = self._draw_kept(frames, len(chain))
        value, found, terms = self._run_levels(chain, frames, kept)
        return Quantized(
            value,
            torch.stack([each.codes for each in found], 1),
            terms,
            torch.stack([cast(Tensor, each.counts) for each in found])
            if self.learning
            else None,
            kept=kept,
        )

    def _run_levels(
        self, chain: list[ResidualLevel], frames: Frames, kept: Tensor | None
    ) -> Chained:
        if self.detached:
            run = run_projected if self.projected else run_plain
            return run(chain, frames, kept, self.learning)
        estimator = find_estimator(self.estimator, self.training)
        result = run_chain(chain, frames, kept, estimator, self.learning)
        if estimator.at_end is None:
            return result
        return result._replace(value=estimator.at_end(frames.x, result.value))

    def _chain(self, levels: int | None) -> list[ResidualLevel]:
        return [cast(ResidualLevel, layer) for layer in self.layers][:levels]

    def _draw_kept(self, frames: Frames, levels: int) -> Tensor | None:
        """Draw the levels that each frame keeps, (N, levels) bool; None: all."""
        drop = self.training and self.quantizer_dropout
        return kept_codebooks(frames, levels, drop)

    def _tables(self, levels: int) -> list[Tensor]:
        codes = torch.arange(self.codebook_size, device=self._device())
        return [layer.decode(codes) for layer in self._chain(levels)]

    def _search_greedy(self, frames: Frames) -> Tensor:
        return search_chain(self._chain(frames.n_codebooks), frames)

    def _decode(self, codes: Tensor) -> Tensor:
        chain = self._chain(codes.shape[1])
        return added([layer.decode(codes[:, n]) for n, layer in enumerate(chain)])

    def _set_codebook_vectors(self, vectors: Tensor) -> None:
        if self.projected:
            super()._set_codebook_vectors(vectors)
        for level, layer in enumerate(self._chain(None)):
            layer._codebook.set_vectors(vectors[level])

    def _hold(self, entries: Tensor | None) -> None:
        for level, layer in enumerate(self._chain(None)):
            layer._codebook.hold(None if entries is None else entries[level])
