"""The bitrate of a codec and the usage of its codes, compared with plain formulas."""

import pytest
import torch

from sb_espnet_vq.evaluation.codecs import cost


def test_the_entropy_bitrate_is_at_most_the_bitrate():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(64, (5000, 3), generator=generator)
    codes[:, 1] = 7
    spent = cost(codes, codebook_sizes=[64] * 4, seconds=50.0)
    assert spent.bitrate == pytest.approx(3 * 6 * 100 / 1000)
    probs = [torch.bincount(codes[:, k]) / 5000 for k in (0, 2)]
    bits = sum(-(p * p.log2()).sum() for p in probs)
    assert spent.entropy_bitrate == pytest.approx(float(bits) * 0.1, rel=1e-4)
    assert spent.used_codes == pytest.approx((64 + 1 + 64) / 3)
    # Codebooks of different sizes; the second is not used at the lower rate.
    for used, bits in ((2, 6), (1, 4)):
        spent = cost(codes[:, :used] % 4, codebook_sizes=[16, 4], seconds=50.0)
        assert spent.bitrate == pytest.approx(bits * 100 / 1000)
    huge = cost(torch.tensor([[2**61], [3]]), codebook_sizes=[2**62], seconds=1.0)
    assert huge.perplexity == pytest.approx(2)
