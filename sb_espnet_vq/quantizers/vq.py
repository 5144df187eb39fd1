"""`vq`: one codebook, learned by moving averages."""

from torch import Tensor

from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import Quantized, Quantizer
from sb_espnet_vq.quantizers.codebook import EMACodebook
from sb_espnet_vq.quantizers.options import in_range, true_or_false


class VQ(Quantizer):
    """Vector quantizer with an EMA codebook.

    van den Oord et al. 2017, https://arxiv.org/abs/1711.00937, equation 3 and
    appendix A.1; k-means initialization and replacement of dead codes as in
    SoundStream, Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312, section III-C.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Number of codes.
    decay : float
        Decay of the moving averages, in [0, 1].
    commitment_weight : float
        Weight of the commitment loss: mean squared distance between frames and
        their codebook vectors, with gradient only to the frames.
    kmeans_init : bool
        Initialize the codebook by k-means over the first training batch.
    kmeans_iters : int
        Iterations of k-means.
    threshold_ema_dead_code : float
        Replace codes that represent fewer frames per batch than this, on average
        over batches, and fewer than a tenth of the mean over codes. 0 disables it.
    frozen : bool
        No updates in training; gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Buffers
    -------
    See `EMACodebook`.

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
        decay: float = 0.99,
        commitment_weight: float = 1.0,
        kmeans_init: bool = True,
        kmeans_iters: int = 50,
        threshold_ema_dead_code: float = 2,
        frozen: bool = False,
    ):
        super().__init__(dim, codebook_size)
        weight = in_range("commitment_weight", commitment_weight, 0, float("inf"))
        self.loss_weights = {"commitment": weight}
        self._codebook = EMACodebook(
            dim,
            codebook_size,
            decay=decay,
            kmeans_init=kmeans_init,
            kmeans_iters=kmeans_iters,
            threshold_ema_dead_code=threshold_ema_dead_code,
        )
        self.frozen = true_or_false("frozen", frozen)

    def _quantize(self, frames: Frames) -> Quantized:
        book = self._codebook
        if self.learning:
            book.start_(frames)
        codes = book.search(frames.x)
        value = book.entries(codes)
        commitment = frames.mean_square(frames.x, value)
        counts = book.learn_(frames, codes)[None] if self.learning else None
        quantized = straight_through(frames.x, value)
        return Quantized(quantized, codes[:, None], {"commitment": commitment}, counts)

    def _search(self, frames: Frames) -> Tensor:
        return self._codebook.search(frames.x)[:, None]

    def _decode(self, codes: Tensor) -> Tensor:
        return self._codebook.decode(codes[:, 0])

    def _hold(self, entries: Tensor | None) -> None:
        self._codebook.hold(None if entries is None else entries[0])
