"""ESPnet's own residual quantizer in this codec, to compare with.

> python recipes/codec/train.py hparams/codec/fsdd.yaml \
      --quantizer espnet_quantizer.ESPnetRVQ
"""

import torch
from espnet2.gan_codec.shared.quantizer.residual_vq import ResidualVectorQuantizer

from sb_espnet_vq.quantizers.base import Quantized, Quantizer


class ESPnetRVQ(Quantizer):
    """ESPnet's ResidualVectorQuantizer behind the contract's interface.

    It gets the real frames of the batch alone; all else is as ESPnet does it. For
    one process: it does not know of other ranks' frames.

    Arguments
    ---------
    dim, codebook_size, n_codebooks : int
        As for ``rvq``.
    **options
        ESPnet's own: decay, kmeans_init, kmeans_iters, threshold_ema_dead_code.
    """

    def __init__(self, dim, codebook_size=1024, n_codebooks=8, **options):
        super().__init__(dim, codebook_size, n_codebooks)
        self.loss_weights = {"commitment": 1.0}
        self.theirs = ResidualVectorQuantizer(
            dim, codebook_dim=dim, n_q=n_codebooks, bins=codebook_size, **options
        )

    def _quantize(self, frames):
        rate, wanted = self._bandwidth(frames.n_codebooks)
        real = _as_utterance(frames.x[frames.valid])
        quantized, found, _, commitment = self.theirs(real, rate, wanted)
        value = torch.zeros_like(frames.x)
        value[frames.valid] = quantized[0].T
        codes = torch.full((len(value), len(found)), -1, device=value.device)
        codes[frames.valid] = found[:, 0].T
        return Quantized(value, codes, {"commitment": commitment})

    def _search(self, frames):
        rate, wanted = self._bandwidth(frames.n_codebooks)
        codes = self.theirs.encode(_as_utterance(frames.x), rate, wanted)
        return codes[:, 0].T

    def _decode(self, codes):
        # A code of -1 contributes nothing; ESPnet's decode does not know it.
        value = self.theirs.decode(codes.clamp(min=0).T[:, None])[0].T
        return value * (codes[:, :1] >= 0)

    def _bandwidth(self, used):
        """A frame rate (Hz) and the bandwidth (kbit/s) of so many codebooks."""
        rate = 1000.0
        # Half a codebook more, since ESPnet rounds down what may be just below.
        return rate, (used + 0.5) * self.theirs.get_bandwidth_per_quantizer(rate)


def _as_utterance(frames):
    """(N, D) frames as (1, D, N), which is what ESPnet's class takes."""
    return frames.T[None]
