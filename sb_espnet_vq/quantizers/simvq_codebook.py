"""A fixed random table behind a learned linear map."""

import torch
from torch import Tensor, nn

from sb_espnet_vq.ops.distance import mean_square
from sb_espnet_vq.quantizers.offset_codebook import OffsetCodebook
from sb_espnet_vq.quantizers.options import in_range
from sb_espnet_vq.quantizers.precision import project, table_dtype


class SimVQCodebook(OffsetCodebook):
    """Codebook vectors that are a learned linear map of fixed random vectors.

    Zhu et al. 2024, https://arxiv.org/abs/2411.02038, section 3: every frame moves the
    map, and with it also the vectors of codes that are not used.

    Arguments
    ---------
    dim : int
        Width of the codebook vectors.
    codebook_size : int
        Number of codebook vectors.
    codebook_weight : float
        Weight of the loss term ``codebook``, the mean squared distance of the vectors
        to their (fixed) frames.
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
    table : (codebook_size, dim) the fixed random vectors, of about unit norm. Others:
        see `OffsetCodebook`.

    Example
    -------
    >>> book = SimVQCodebook(dim=4, codebook_size=8)
    >>> [name for name, _ in book.named_parameters()]
    ['linear.weight']
    """

    table: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        codebook_weight: float = 1.0,
        kmeans_init: bool = False,
        kmeans_iters: int = 50,
        metric: str = "euclidean",
    ):
        super().__init__(dim, codebook_size, metric, kmeans_init, kmeans_iters)
        weight = in_range("codebook_weight", codebook_weight, 0, float("inf"))
        self.loss_weights = {"codebook": weight}
        self.register_buffer("table", torch.randn(codebook_size, dim) * dim**-0.5)
        self.linear = nn.Linear(dim, dim, bias=False)

    def _own_vectors(self) -> Tensor:
        return project(self.linear, self.table.to(table_dtype(self.table)))

    def losses(self, z: Tensor, entries: Tensor) -> dict[str, Tensor]:
        """Return the squared distance of each vector to its (fixed) frame."""
        return {"codebook": mean_square(z.detach() - entries)}
