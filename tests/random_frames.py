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


def log_mel(n_mels=80, rate=16000, hop=160):
    """Normalised log-mel frames of 20 s of gliding harmonics in noise."""
    time = torch.arange(20 * rate, dtype=torch.float64) / rate
    pitch = 140 + 60 * torch.sin(1.7 * time) + 15 * torch.sin(11 * time)
    phase = (2 * torch.pi * pitch / rate).cumsum(0)
    voice = sum(torch.sin(k * phase) / k for k in range(1, 24))
    loud = torch.sin(5 * time).clamp(min=0) * (1 + torch.sin(0.9 * time))
    signal = (loud * voice).float() + 0.02 * normal(len(time), seed=7)
    window = torch.hann_window(400)
    power = torch.stft(signal, 512, hop, 400, window, return_complex=True).abs() ** 2
    top = 2595 * torch.tensor(1 + rate / 2 / 700).log10()
    edges = 700 * (10 ** (torch.linspace(0, top, n_mels + 2) / 2595) - 1)
    hertz = torch.linspace(0, rate / 2, 257)
    up = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    frames = (torch.minimum(up, down).clamp(min=0) @ power + 1e-5).log().t()
    return (frames - frames.mean()) / frames.std()
