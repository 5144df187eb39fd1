"""A codebook of parameters, learned by gradient."""

import torch
from torch import Tensor, nn

from sb_espnet_vq.ops.distance import mean_square
from sb_espnet_vq.quantizers.held import without_held
from sb_espnet_vq.quantizers.offset_codebook import OffsetCodebook
from sb_espnet_vq.quantizers.options import in_range


class GradientCodebook(OffsetCodebook):
    """Codebook vectors that are parameters, initially normally distributed.

    van den Oord et al. 2017, https://arxiv.org/abs/1711.00937, equation 3: the loss
    term ``codebook`` moves each vector towards its (fixed) frames.

    Arguments
    ---------
    dim : int
        Width of the codebook vectors.
    codebook_size : int
        Number of codebook vectors.
    codebook_weight : float
        Weight of the loss term ``codebook``.
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
    See `OffsetCodebook`.

    Example
    -------
    >>> book = GradientCodebook(dim=4, codebook_size=8, metric="cosine")
    >>> codes, vectors = book.look_up(torch.randn(100, 4))
    >>> vectors.shape, vectors.requires_grad
    (torch.Size([100, 4]), True)
    """

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
        # Named as the table of DAC's codebooks.
        self.weight = nn.Parameter(torch.randn(codebook_size, dim))

    def _own_vectors(self) -> Tensor:
        return without_held(self.weight, self.held)

    def hold(self, entries: Tensor | None) -> None:
        """Exclude vectors from updates where ``entries`` (codebook_size,) is True."""
        self.held = entries

    @torch.no_grad()
    def set_vectors(self, vectors: Tensor) -> None:
        """Replace all vectors (codebook_size, dim)."""
        self.weight.copy_(self._without_offset(vectors))

    def losses(self, z: Tensor, entries: Tensor) -> dict[str, Tensor]:
        """Return the squared distance of each vector to its (fixed) frame."""
        return {"codebook": mean_square(z.detach() - entries)}
