"""`simvq`: a fixed random table behind a learned linear map."""

from sb_espnet_vq.quantizers.vq import VQ


class SimVQ(VQ):
    """Vector quantizer whose codebook is a learned map of fixed random vectors.

    Zhu et al. 2024, "SimVQ", https://arxiv.org/abs/2411.02038, section 3:
    a gradient of one code moves the vectors of all codes, so that none
    stays unused. It is `VQ` with ``codebook: simvq`` and a commitment weight of 0.25.

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
        Weight of the mean squared distance of frames to their (fixed) codes.
    codebook_weight : float
        Weight of the mean squared distance of the vectors to their (fixed) frames.
    metric : str
        ``euclidean`` or ``cosine``, of the search only.
    estimator : str
        Gradient of the lookup: ``ste``, ``rotation``, ``nsvq`` or ``diveq``, as in
        `VQ`.
    kmeans_init : bool
        Start at the k-means centres of the first training batch.
    kmeans_iters : int
        Iterations of k-means.
    frozen : bool
        No updates in training; gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Buffers
    -------
    See `SimVQCodebook`.

    Example
    -------
    >>> import torch
    >>> q = SimVQ(dim=8, codebook_size=16)
    >>> out = q(torch.randn(2, 100, 8))
    >>> sorted(out.stats)
    ['codebook', 'commitment', 'perplexity', 'used_codes']
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        code_dim: int | None = None,
        commitment_weight: float = 0.25,
        codebook_weight: float = 1.0,
        metric: str = "euclidean",
        estimator: str = "ste",
        kmeans_init: bool = False,
        kmeans_iters: int = 50,
        frozen: bool = False,
    ):
        super().__init__(
            dim,
            codebook_size,
            code_dim,
            commitment_weight,
            "simvq",
            metric,
            estimator,
            frozen,
            codebook_weight=codebook_weight,
            kmeans_init=kmeans_init,
            kmeans_iters=kmeans_iters,
        )
