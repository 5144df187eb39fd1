"""Every configuration of the ESPnet recipe trains: the loss decreases.

With its own optimizers, clipping and weights of losses; networks are tiny.
"""

import copy
import random
from pathlib import Path

import pytest
import torch
import yaml
from tiny_codecs import RATE, codec_conf

pytest.importorskip("espnet2")

from espnet2.tasks.abs_task import optim_classes

from sb_espnet_vq.gan_codec.codecs import CODECS

CONF = Path(__file__).parents[3] / "recipes" / "espnet_codec" / "conf"
STEPS = 8


def build(config):
    codec, conf = config["codec"], config["codec_conf"]
    tiny = codec_conf(codec)
    generator = conf.get("generator_params", {}) | tiny["generator_params"]
    return CODECS[codec](**{**conf, **tiny, "generator_params": generator})


def optimizer(config, number, parameters):
    name, options = config[f"optim{number}"], config[f"optim{number}_conf"]
    return optim_classes[name](parameters, **options)


def loss_of(codec, audio, generator):
    """Return the loss with the same random draws and bandwidth every time."""
    random.seed(0)
    torch.manual_seed(0)
    # Cache between the turns of the GAN.
    codec._cache = None
    return codec(audio, forward_generator=generator)["loss"]


def loss_at(codec, audio, generator, buffers):
    """Without side effects, and with fixed codebooks."""
    state = copy.deepcopy(codec.state_dict())
    for name, buffer in codec.named_buffers():
        buffer.copy_(buffers[name])
    loss = float(loss_of(codec, audio, generator).detach())
    codec.load_state_dict(state)
    return loss


@pytest.mark.parametrize("generator", [True, False], ids=["codec", "discriminator"])
@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_it_learns(path, generator):
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    torch.manual_seed(0)
    codec = build(config)
    time = torch.arange(1600) / RATE
    audio = 0.3 * torch.sin(6.283 * torch.tensor([[200.0], [450.0]]) * time)
    audio += 0.02 * torch.randn(audio.shape)
    part = codec.generator if generator else codec.discriminator
    steps = optimizer(config, "" if generator else "2", part.parameters())
    # It starts the codebooks.
    loss_of(codec, audio, True)
    buffers = copy.deepcopy(dict(codec.named_buffers()))
    before = loss_at(codec, audio, generator, buffers)
    weights = [p.detach().clone() for p in part.parameters()]
    for _ in range(STEPS):
        steps.zero_grad()
        loss_of(codec, audio, generator).backward()
        # ESPnet's default; 0 or less is no clipping there.
        norm = config.get("grad_clip", 5.0)
        if norm > 0:
            torch.nn.utils.clip_grad_norm_(part.parameters(), norm)
        steps.step()
    (group,) = steps.param_groups
    moved = 0
    for old, new in zip(weights, part.parameters(), strict=True):
        decay = STEPS * group["lr"] * group["weight_decay"] * float(old.abs().max())
        distance = float((new - old).detach().abs().max())
        moved += distance > 10 * decay and distance > group["lr"]
    assert moved > 0.8 * len(weights)
    assert loss_at(codec, audio, generator, buffers) < before
