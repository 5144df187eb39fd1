"""YAML for each use of a quantizer (role), and a small pipeline that trains it."""

import io
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models.wav2vec import W2VTargetQuantiser
from torch import Tensor, nn

WIDTH = 8

# All sizes are powers of two, so that bsq supports them.
YAML = {
    "target": """
module: !new:sb_espnet_vq.lobes.quantizers.TargetQuantizer
    input_dim: 8
    cb_dim: 4
    cb_vocab: 16
""",
    "contrastive": """
module: !new:sb_espnet_vq.lobes.quantizers.ContrastiveQuantizer
    input_dim: 8
    num_vars: 16
    temp_tuple: (2.0, 0.5, 0.99)
    groups: 2
    vq_dim: 6
""",
    "bottleneck": """
module: !new:sb_espnet_vq.lobes.quantizers.BottleneckQuantizer
    code_dim: 8
""",
    "dictionary": """
module: !new:sb_espnet_vq.lobes.quantizers.DictionaryQuantizer
    K: 32
    D: 8
    numclasses: 4
    shared_keys: 0
""",
}
ROLES = list(YAML)


def load(role: str, quantizer: str | None = None, conf: str = "", seed: int = 0):
    """Build the adapter of a role from YAML, optionally with another quantizer."""
    yaml = YAML[role]
    if quantizer is not None:
        yaml += f"    quantizer: {quantizer}\n"
    if conf:
        yaml += f"    quantizer_conf: {conf}\n"
    torch.manual_seed(seed)
    return load_hyperpyyaml(io.StringIO(yaml))["module"]


def batch() -> Tensor:
    """Return (4, 40, 8) frames around a few cluster centres with mean 1."""
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(6, WIDTH, generator=generator) + 1
    which = torch.randint(0, 6, (4, 40), generator=generator)
    return centres[which] + 0.1 * torch.randn(4, 40, WIDTH, generator=generator)


LABELS = torch.tensor([0, 1, 3, 1])


def outputs(role: str, module: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """Return all tensors that the adapter of a role outputs for frames (B, T, 8)."""
    if role == "target":
        return (module(x),)
    if role == "contrastive":
        out = module(x)
        return out["x"], out["code_perplexity"], out["prob_perplex"]
    if role == "bottleneck":
        return module(x)
    z = x.unflatten(1, (5, -1)).movedim(-1, 1)
    return *module.straight_through(z, LABELS), module(z, LABELS)


def train(role: str, module: nn.Module, steps: int) -> list[float]:
    """Train a small pipeline around a quantizer; return its losses."""
    x, losses = batch(), []
    before, after = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 16)
    if role == "contrastive":
        module = pipeline_form(module)
    module.train()
    # The encoder learns slowly, so that codes that start near zero can follow it.
    slow, fast = before.parameters(), [*after.parameters(), *module.parameters()]
    groups = [{"params": slow, "lr": 0.001}, {"params": fast}]
    optimizer = torch.optim.Adam(groups, lr=0.03)
    for _ in range(steps):
        loss = task_loss(role, module, x, before, after)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def pipeline_form(module: nn.Module) -> W2VTargetQuantiser:
    """Return SpeechBrain's own wrapper around an adapter that is already built."""
    arguments: list = []

    def take(*given):
        arguments.extend(given)
        return module

    wrapper = W2VTargetQuantiser(WIDTH, 6, take, 16, (2.0, 0.5, 0.99))
    assert len(arguments) == 5
    return wrapper


def task_loss(role: str, module: nn.Module, x: Tensor, before, after) -> Tensor:
    if role == "target":
        return F.cross_entropy(after(before(x)).transpose(1, 2), module(x))
    if role == "contrastive":
        targets, meta = module(before(x))
        module.quantiser.update_temp(1)
        return F.mse_loss(targets, x[..., :6]) + 0.1 * meta["diversity_loss"].mean()
    if role == "bottleneck":
        quantized, _, loss = module(before(x))
        return F.mse_loss(after(quantized)[..., :WIDTH], x) + 0.1 * loss
    z = before(x).unflatten(1, (5, -1)).movedim(-1, 1)
    value, bar = module.straight_through(z, LABELS)
    made = after(value.movedim(1, -1).flatten(1, 2))[..., :WIDTH]
    return (
        F.mse_loss(made, x)
        + 0.25 * F.mse_loss(z, bar.detach())
        + 0.25 * F.mse_loss(bar, z.detach())
    )


def tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield copies of the parameters and buffers of a module."""
    for name, value in module.state_dict().items():
        yield name, value.clone()
