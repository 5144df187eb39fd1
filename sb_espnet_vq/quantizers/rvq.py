"""`rvq`: residual vector quantization, a chain of codebooks."""

from typing import cast

import torch
from torch import Tensor, nn

from sb_espnet_vq.ops.distance import mean_square
from sb_espnet_vq.ops.estimators import attach_gradient, straight_through
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import Quantized
from sb_espnet_vq.quantizers.chain import ChainQuantizer
from sb_espnet_vq.quantizers.codebook import EMACodebook
from sb_espnet_vq.quantizers.dropout import kept_codebooks
from sb_espnet_vq.quantizers.options import in_range, positive_int, true_or_false
from sb_espnet_vq.quantizers.precision import project, table_dtype


class ResidualLevel(nn.Module):
    """One residual level: input projection, codebook and output projection.

    Arguments
    ---------
    dim : int
        Width of the frames.
    code_dim : int
        Width of the codebook vectors. If it equals ``dim``, there are no projections.
    **codebook
        Options of `EMACodebook`.
    """

    # Submodules are named as in ESPnet, so that its checkpoints load.

    def __init__(self, dim: int, code_dim: int, **codebook):
        super().__init__()
        same = code_dim == dim
        self.project_in = nn.Identity() if same else nn.Linear(dim, code_dim)
        self.project_out = nn.Identity() if same else nn.Linear(code_dim, dim)
        self._codebook = EMACodebook(code_dim, **codebook)

    def inward(self, x: Tensor) -> Tensor:
        """Project frames (N, dim) to the codebook's width."""
        return project(self.project_in, x)

    def outward(self, entries: Tensor) -> Tensor:
        """Project codebook vectors (N, code_dim) to the width of the frames."""
        return project(self.project_out, entries)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the values (N, dim) of codes (N,), zero for -1."""
        out = self.outward(self._codebook.decode(codes))
        if isinstance(self.project_out, nn.Identity):
            return out
        # The bias of the projection would otherwise give a missing code a value.
        return torch.where(codes[:, None] >= 0, out, 0)


class RVQ(ChainQuantizer):
    """Residual vector quantizer with EMA codebooks.

    Zeghidour et al. 2021, "SoundStream", https://arxiv.org/abs/2107.03312,
    algorithm 1; with ``code_dim`` the factorized form of Kumar et al. 2023,
    https://arxiv.org/abs/2306.06546, section 3.2.

    Gradients. The frames get the straight-through gradient of the whole chain, which is
    treated as the identity, and the gradient of each level's commitment loss. Output
    projections get the gradient of the value with the codes fixed. Input projections
    get the gradient of their own level, with a straight-through lookup.

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
    decay : float
        Decay of the moving averages, in [0, 1].
    commitment_weight : float
        Weight of the commitment loss: mean squared distance between the input of a
        level and its codebook vector, averaged over levels, with gradient only to the
        input.
    kmeans_init : bool
        Initialize each codebook by k-means over the first training batch.
    kmeans_iters : int
        Iterations of k-means.
    threshold_ema_dead_code : float
        Replace codes that represent fewer frames per batch than this, on average
        over batches, and fewer than a tenth of the mean over codes. 0 disables it.
    frozen : bool
        No updates in training, of codebooks or projections; gradients still reach
        the frames.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Buffers
    -------
    See `EMACodebook`, one for each level.

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
        decay: float = 0.99,
        commitment_weight: float = 1.0,
        kmeans_init: bool = True,
        kmeans_iters: int = 50,
        threshold_ema_dead_code: float = 2,
        frozen: bool = False,
    ):
        super().__init__(dim, codebook_size, n_codebooks)
        code_dim = dim if code_dim is None else positive_int("code_dim", code_dim)
        weight = in_range("commitment_weight", commitment_weight, 0, float("inf"))
        self.loss_weights = {"commitment": weight}
        dropout = true_or_false("quantizer_dropout", quantizer_dropout)
        self.quantizer_dropout = self.draws_codes = dropout
        self.projected = code_dim != dim
        self.layers = nn.ModuleList(
            ResidualLevel(
                dim,
                code_dim,
                codebook_size=codebook_size,
                decay=decay,
                kmeans_init=kmeans_init,
                kmeans_iters=kmeans_iters,
                threshold_ema_dead_code=threshold_ema_dead_code,
            )
            for _ in range(n_codebooks)
        )
        if true_or_false("frozen", frozen):
            self.requires_grad_(False)

    def _quantize(self, frames: Frames) -> Quantized:
        chain = self._chain(frames.n_codebooks)
        kept = self._draw_kept(frames, len(chain))
        run = self._run_projected if self.projected else self._run_plain
        value, codes, commitment, counts = run(chain, frames, kept)
        return Quantized(
            straight_through(frames.x, value),
            torch.stack(codes, 1),
            {"commitment": commitment / len(chain)},
            torch.stack(counts) if self.learning else None,
            kept=kept,
        )

    def _chain(self, levels: int | None) -> list[ResidualLevel]:
        return [cast(ResidualLevel, layer) for layer in self.layers][:levels]

    def _run_plain(self, chain: list[ResidualLevel], frames: Frames, kept):
        """Run levels without projections; their gradient is computed in closed form.

        The gradient of a level's commitment loss is proportional to its residual, so
        the gradients of all levels are accumulated in one tensor, without a graph.
        """
        residual = self._widened(frames.x)
        value = torch.zeros_like(residual, dtype=self._table_dtype())
        pull = torch.zeros_like(residual)
        commitment = residual.new_zeros(())
        weights = torch.zeros_like(frames.weight)
        codes, counts = [], []
        for level, layer in enumerate(chain):
            code, entries, count = self._run_codebook(layer, frames, residual)
            residual -= entries
            weight = frames.weight
            if kept is not None:
                entries = entries * kept[:, level, None]
                weight = weight * kept[:, level]
            value += entries
            weights += weight
            pull.addcmul_(residual, weight[:, None])
            commitment += (mean_square(residual) * weight).sum()
            codes.append(code)
            counts.append(count)
        scale = frames.share() * 2 / self.dim
        curve = (weights * scale)[:, None]
        commitment = commitment * frames.share()
        commitment = attach_gradient(frames.x, commitment, pull * scale, curve)
        return value, codes, commitment, counts

    def _run_projected(self, chain: list[ResidualLevel], frames: Frames, kept):
        """Run levels with learned projections."""
        residual = frames.x
        values, codes, commitments, counts = [], [], [], []
        for level, layer in enumerate(chain):
            z = layer.inward(residual)
            code, entries, count = self._run_codebook(layer, frames, z.detach())
            distance = mean_square(z - entries)
            # Detached, since the frames get the gradient of the whole chain instead.
            out = straight_through(layer.inward(residual.detach()), entries)
            out = layer.outward(out)
            residual = residual - out.detach()
            if kept is not None:
                out = out * kept[:, level, None]
                distance = distance * kept[:, level]
            values.append(out)
            codes.append(code)
            commitments.append(frames.mean(distance))
            counts.append(count)
        return _added(values), codes, sum(commitments), counts

    def _run_codebook(self, layer: ResidualLevel, frames: Frames, z: Tensor):
        book = layer._codebook
        inner = frames._replace(x=z)
        if self.learning:
            book.start_(inner)
        code = book.search(z)
        entries = book.entries(code)
        return code, entries, book.learn_(inner, code) if self.learning else None

    def _draw_kept(self, frames: Frames, levels: int) -> Tensor | None:
        """Draw the levels that each frame keeps, (N, levels) bool; None: all."""
        drop = self.training and self.quantizer_dropout
        return kept_codebooks(frames, levels, drop)

    def _search_greedy(self, frames: Frames) -> Tensor:
        residual, codes = self._widened(frames.x), []
        chain = self._chain(frames.n_codebooks)
        for level, layer in enumerate(chain, start=1):
            code = layer._codebook.search(layer.inward(residual))
            codes.append(code)
            if level < len(chain):
                residual -= layer.outward(layer._codebook.entries(code))
        return torch.stack(codes, 1)

    def _tables(self, levels: int) -> list[Tensor]:
        codes = torch.arange(self.codebook_size, device=self._device())
        return [layer.decode(codes) for layer in self._chain(levels)]

    def _table_dtype(self) -> torch.dtype:
        return table_dtype(self._chain(1)[0]._codebook.embed)

    def _widened(self, x: Tensor) -> Tensor:
        """Return a copy of frames in the common dtype of frames and codebook."""
        dtype = torch.promote_types(x.dtype, self._table_dtype())
        return x.detach().to(dtype, copy=True)

    def _decode(self, codes: Tensor) -> Tensor:
        chain = self._chain(codes.shape[1])
        return _added([layer.decode(codes[:, n]) for n, layer in enumerate(chain)])

    def _set_codebook_vectors(self, vectors: Tensor) -> None:
        if self.projected:
            super()._set_codebook_vectors(vectors)
        for level, layer in enumerate(self._chain(None)):
            layer._codebook.set_vectors(vectors[level])

    def _hold(self, entries: Tensor | None) -> None:
        for level, layer in enumerate(self._chain(None)):
            layer._codebook.hold(None if entries is None else entries[level])


def _added(values: list[Tensor]) -> Tensor:
    """Add in the order of levels, so that forward and decode round equally."""
    return sum(values[1:], values[0])
