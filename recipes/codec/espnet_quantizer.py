"""ESPnet's own residual quantizer as a quantizer of this recipe, for comparison.

> python recipes/codec/train.py hparams/codec/fsdd.yaml \
      --quantizer espnet_quantizer.ESPnetRVQ
"""

import torch
from espnet2.gan_codec.shared.quantizer.residual_vq import ResidualVectorQuantizer

from sb_espnet_vq.quantizers.base import Quantized, Quantizer


class ESPnetRVQ(Quantizer):
    """ESPnet's ResidualVectorQuantizer with the interface of `Quantizer`.

    It gets only the valid frames of the batch; all else is ESPnet's implementation. It
    supports only one process, since its updates ignore the frames of other ranks.

    Arguments
    ---------
    dim, codebook_size, n_codebooks : int
        As for ``rvq``.
    **options
        Options of ESPnet: decay, kmeans_init, kmeans_iters, threshold_ema_dead_code.
    """

    def __init__(self, dim, codebook_size=1024, n_codebooks=8, **options):
        super().__init__(dim, codebook_size, n_codebooks)
        self.loss_weights = {"commitment": 1.0}
        self.theirs = ResidualVectorQuantizer(
            dim, codebook_dim=dim, n_q=n_codebooks, bins=codebook_size, **options
        )

    def _quantize(self, frames):
        rate, bandwidth = self._bandwidth(frames.n_codebooks)
        valid = _as_utterance(frames.x[frames.valid])
        quantized, indices, _, commitment = self.theirs(valid, rate, bandwidth)
        value = torch.zeros_like(frames.x)
        value[frames.valid] = quantized[0].T
        codes = torch.full((len(value), len(indices)), -1, device=value.device)
        codes[frames.valid] = indices[:, 0].T
        return Quantized(value, codes, {"commitment": commitment})

    def _search(self, frames):
        rate, bandwidth = self._bandwidth(frames.n_codebooks)
        codes = self.theirs.encode(_as_utterance(frames.x), rate, bandwidth)
        return codes[:, 0].T

    def _decode(self, codes):
        # A code of -1 contributes nothing; ESPnet's decode does not support it.
        value = self.theirs.decode(codes.clamp(min=0).T[:, None])[0].T
        return value * (codes[:, :1] >= 0)

    def _bandwidth(self, used):
        """Return a frame rate (Hz) and the bandwidth (kbit/s) of `used` codebooks."""
        rate = 1000.0
        # Plus half a codebook, since ESPnet rounds the number of codebooks down.
        return rate, (used + 0.5) * self.theirs.get_bandwidth_per_quantizer(rate)


def _as_utterance(frames):
    """Return frames (N, D) as (1, D, N), the input of ESPnet's class."""
    return frames.T[None]
