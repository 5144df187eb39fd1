"""Drop-in for `espnet2.gan_codec.shared.quantizer.residual_vq`."""

from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer, QuantizedResult

__all__ = ["QuantizedResult", "ResidualVectorQuantizer"]


class ResidualVectorQuantizer(CodecQuantizer):
    """Residual vector quantizer with the interface of ESPnet's class.

    Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312, algorithm 1.

    Arguments
    ---------
    dimension : int
        Width of the frames.
    codebook_dim : int
        Width of the codebook vectors. If it differs from ``dimension``, each level has
        learned input and output projections.
    n_q : int
        Number of codebooks.
    bins : int
        Codes in each codebook.
    decay : float
        Decay of the moving averages.
    kmeans_init : bool
        Initialize by k-means over the first training batch.
    kmeans_iters : int
        Iterations of k-means.
    threshold_ema_dead_code : int
        Replace codes with fewer frames per batch than this on average, and fewer than
        a tenth of the mean over codes. 0 disables it.
    quantizer_dropout : bool
        In training, use only the first codebooks, a random number of them for each
        utterance.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Example
    -------
    >>> import torch
    >>> rvq = ResidualVectorQuantizer(dimension=16, codebook_dim=16, n_q=8, bins=32)
    >>> result = rvq(torch.randn(2, 16, 100), sample_rate=50, bandwidth=1.0)
    >>> result.quantized.shape, result.codes.shape, result.bandwidth
    (torch.Size([2, 16, 100]), torch.Size([4, 2, 100]), tensor(1.))
    """

    def __init__(
        self,
        dimension: int = 256,
        codebook_dim: int = 512,
        n_q: int = 8,
        bins: int = 1024,
        decay: float = 0.99,
        kmeans_init: bool = True,
        kmeans_iters: int = 50,
        threshold_ema_dead_code: int = 2,
        quantizer_dropout: bool = False,
    ):
        super().__init__(
            dimension,
            codebook_dim,
            n_q,
            bins,
            decay,
            kmeans_init,
            kmeans_iters,
            threshold_ema_dead_code,
            quantizer_dropout,
        )
