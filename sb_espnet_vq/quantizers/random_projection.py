"""`random_projection`: frozen random projections and codebooks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.ops.devices import TensorVersion, eager_on_cpu
from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.ops.nearest import best_score, nearest_code
from sb_espnet_vq.ops.scores import scores
from sb_espnet_vq.quantizers.base import Quantized, Quantizer
from sb_espnet_vq.quantizers.options import one_of, positive_int
from sb_espnet_vq.quantizers.precision import table_dtype

# Singular values of several projections below this share of the largest are left out
# of the pseudo-inverse.
_TOLERANCE = 0.2


class RandomProjection(Quantizer):
    """Random-projection quantizer: fixed targets for masked prediction.

    Chiu et al. 2022, "BEST-RQ", https://arxiv.org/abs/2202.01855, section 3.1: the
    code of x is the index of the vector of a random unit-norm codebook that is nearest
    to the normalized random projection of x. As all codebook vectors have norm 1, that
    vector also has the largest inner product with the unnormalized projection. Several
    codebooks each have a projection of their own, as in Zhang et al. 2023, "USM",
    https://arxiv.org/abs/2303.01037, section 3.2. Nothing is trained.

    Codes decode to the frame of minimum norm whose projections are the codebook
    vectors, those of missing codes being 0 (pseudo-inverse of all projections, side
    by side; if no frame has these projections, least squares). The value is
    therefore the sum of one vector for each code. With several codebooks, directions
    in which the projections hardly differ are left out.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Codes in each codebook.
    code_dim : int
        Width of each projection.
    n_codebooks : int
        Number of codebooks, each with a projection of its own.
    metric : str
        ``cosine``: codebook vectors have norm 1, and the code of a frame does not
        depend on its norm. ``euclidean``: neither codebook vectors, drawn from a
        standard normal distribution, nor projections are normalized.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Buffers
    -------
    P : (dim, n_codebooks * code_dim) the projections side by side, each Xavier-uniform.
    CB : (n_codebooks * codebook_size, code_dim) the codebooks one after the other;
        with ``cosine`` unit-norm rows.
    unproject : (n_codebooks * code_dim, dim) pseudo-inverse of P; not saved,
        recomputed when P changes.

    Example
    -------
    >>> import torch
    >>> q = RandomProjection(dim=80, codebook_size=512, n_codebooks=4)
    >>> q.encode(torch.randn(2, 100, 80)).shape
    torch.Size([2, 100, 4])
    """

    # There is nothing to train.
    frozen = True

    P: Tensor
    CB: Tensor
    unproject: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int = 8192,
        code_dim: int = 16,
        n_codebooks: int = 1,
        metric: str = "cosine",
    ):
        super().__init__(dim, codebook_size, n_codebooks)
        self.code_dim = positive_int("code_dim", code_dim)
        self.metric = one_of("metric", metric, ("cosine", "euclidean"))
        # In SpeechBrain's order, so that a seed gives the same tensors; more codebooks
        # leave the first ones unchanged.
        drawn = [self._draw() for _ in range(n_codebooks)]
        projections, codebooks = zip(*drawn, strict=True)
        self.register_buffer("P", torch.cat(projections, 1))
        self.register_buffer("CB", torch.cat(codebooks))
        self.register_buffer("unproject", self._invert(), persistent=False)
        self._note_inverse()

    def _draw(self) -> tuple[Tensor, Tensor]:
        projection = nn.init.xavier_uniform_(torch.empty(self.dim, self.code_dim))
        codebook = torch.randn(self.codebook_size, self.code_dim)
        if self.metric == "cosine":
            codebook = F.normalize(codebook)
        return projection, codebook

    def _quantize(self, frames: Frames) -> Quantized:
        codes = self._search(frames)
        return Quantized(straight_through(frames.x, self._decode(codes)), codes, {})

    def _search(self, frames: Frames) -> Tensor:
        x = frames.x.detach()
        used = frames.n_codebooks or self.n_codebooks
        # All projections in one product.
        table = self.P[:, : used * self.code_dim].t().to(x.dtype)
        parts = scores(x, table).split(self.code_dim, 1)
        find = best_score if self.metric == "cosine" else nearest_code
        books = self.CB.to(x.dtype).split(self.codebook_size)
        # Not strict: there are more codebooks than parts if some are not used.
        codes = [find(part, book) for part, book in zip(parts, books, strict=False)]
        return torch.stack(codes, 1)

    def _decode(self, codes: Tensor) -> Tensor:
        dtype = table_dtype(self.CB)
        used = codes.shape[1]
        first = torch.arange(used, device=codes.device) * self.codebook_size
        entries = F.embedding(codes.clamp(min=0) + first, self.CB.to(dtype))
        entries = torch.where(codes[..., None] >= 0, entries, 0).flatten(1)
        return entries @ self._inverse()[: used * self.code_dim].to(dtype)

    def _inverse(self) -> Tensor:
        """Return the pseudo-inverse of the current P."""
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            return self.unproject  # ONNX has no such operator
        if torch.compiler.is_compiling():
            return self._invert()
        # On a GPU a comparison of values would synchronize the device.
        copy, version = self._inverted
        same_kind = copy.dtype == self.P.dtype and copy.device == self.P.device
        if eager_on_cpu(self.P):
            known = same_kind and torch.equal(copy, self.P)
        else:
            known = same_kind and version.is_of(self.P)
        if not known:
            self.unproject = self._invert().to(self.P.dtype)
            self._note_inverse()
        return self.unproject

    def _invert(self) -> Tensor:
        # Projections of about `dim` columns in total are nearly dependent: without a
        # tolerance, values would be far larger than frames.
        tolerance = _TOLERANCE if self.n_codebooks > 1 else None
        return torch.linalg.pinv(self.P.to(table_dtype(self.P)), rtol=tolerance)

    def _note_inverse(self) -> None:
        """Record which projection was inverted."""
        self._inverted = self.P.detach().clone(), TensorVersion(self.P)

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self._inverse()
