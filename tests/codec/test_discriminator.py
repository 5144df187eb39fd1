"""The discriminator."""

import pytest
import torch

pytest.importorskip("torchaudio")

from sb_espnet_vq.codec.discriminator import (
    SpectralDiscriminator,
    adversarial_loss,
    feature_loss,
    judge_loss,
)


@pytest.fixture
def audio():
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(3, 815, generator=generator)


def test_the_discriminator_learns_and_gives_the_codec_gradients(audio):
    torch.manual_seed(0)
    discriminator = SpectralDiscriminator(windows=(64, 128), channels=4, layers=2)
    fake = 0.1 * torch.sin(torch.arange(815.0))[None].repeat(3, 1)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.01)
    before = judge_loss(discriminator(audio), discriminator(fake)).item()
    for _ in range(60):
        optimizer.zero_grad()
        judge_loss(discriminator(audio), discriminator(fake)).backward()
        optimizer.step()
    assert judge_loss(discriminator(audio), discriminator(fake)) < before / 2
    assert adversarial_loss(discriminator(audio)) < adversarial_loss(
        discriminator(fake)
    )
    estimate = fake.clone().requires_grad_()
    assert feature_loss(discriminator(audio), discriminator(audio)) == 0
    feature_loss(discriminator(audio), discriminator(estimate)).backward()
    assert estimate.grad.abs().sum() > 0
