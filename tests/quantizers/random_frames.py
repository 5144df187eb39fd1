"""Random frames for the tests of quantizers."""

import torch


def normal(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def clusters(n, count=48, dim=8, seed=0):
    """Frames around ``count`` well separated middles."""
    middles = normal(count, dim, seed=99) * 4
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(0, count, (n,), generator=generator)
    return middles[chosen] + 0.1 * torch.randn(n, dim, generator=generator)
