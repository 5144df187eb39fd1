"""A codebook that does not learn."""

import torch
from torch import Tensor

from sb_espnet_vq.quantizers.offset_codebook import OffsetCodebook


class FrozenCodebook(OffsetCodebook):
    """Codebook vectors that stay as they start: random, or centres of k-means.

    Random vectors suit learned projections around the codebook (Chiu et al. 2022,
    https://arxiv.org/abs/2202.01855, uses a fixed one); centres are the
    units of Hsu et al. 2021, https://arxiv.org/abs/2106.07447.

    Arguments
    ---------
    dim : int
        Width of the codebook vectors.
    codebook_size : int
        Number of codebook vectors.
    kmeans_init : bool
        Start at the k-means centres of the first training batch.
    kmeans_iters : int
        Iterations of k-means.
    metric : str
        Metric of the search, as in `Codebook`.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Buffers
    -------
    table : (codebook_size, dim) normally distributed vectors. Others: see
        `OffsetCodebook`.

    Example
    -------
    >>> list(FrozenCodebook(dim=4, codebook_size=8).state_dict())
    ['table']
    """

    table: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        kmeans_init: bool = False,
        kmeans_iters: int = 50,
        metric: str = "euclidean",
    ):
        super().__init__(dim, codebook_size, metric, kmeans_init, kmeans_iters)
        self.register_buffer("table", torch.randn(codebook_size, dim))

    def _own_vectors(self) -> Tensor:
        return self.table

    def set_vectors(self, vectors: Tensor) -> None:
        """Replace all vectors (codebook_size, dim)."""
        self.table.copy_(self._without_offset(vectors))
