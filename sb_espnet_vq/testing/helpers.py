"""Helpers of the checks: small quantizers and batches, and comparisons."""

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.quantizers.base import Quantizer, QuantizerOutput
from sb_espnet_vq.registry import build, find_quantizer

#: Integer dtypes in which codes may be stored.
INTEGERS = (
    torch.uint8,
    torch.int16,
    torch.uint16,
    torch.int32,
    torch.uint32,
    torch.int64,
    torch.uint64,
)


def contract_options(name: str) -> dict:
    """Return the options with which a quantizer is checked."""
    offered = getattr(find_quantizer(name), "contract_options", {})
    offered = offered() if callable(offered) else offered
    return {"dim": 8, "codebook_size": 16, **offered}


def make(name: str, options: dict, seed: int = 0) -> Quantizer:
    """Build a quantizer from a seed."""
    torch.manual_seed(seed)
    return build(name, **{**contract_options(name), **options})


def make_started(name: str, options: dict, seed: int = 0) -> Quantizer:
    """Build a quantizer and train it for two steps, so that it is initialized."""
    q = make(name, options, seed)
    for step in range(2):
        train(q, frames(q, 3, 40, seed=100 + step))
    return q


def frames(q: Quantizer, *lead: int, seed: int = 1) -> Tensor:
    """Return normally distributed frames (*lead, dim)."""
    return normal(*lead, q.dim, seed=seed)


def normal(*shape: int, seed: int) -> Tensor:
    """Return normally distributed values, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(*shape, generator=generator, device="cpu")
    return drawn.to(torch.get_default_device())


def some_mask(batch: int, time: int) -> Tensor:
    """Return a mask (batch, time) with padding at the ends and in between."""
    lengths = torch.arange(batch) * time // (2 * batch) + time // 2
    mask = torch.arange(time) < lengths[:, None]
    mask[:, 2::7] = False
    return mask


def labels_for(q: Quantizer, batch: int) -> Tensor | None:
    """Return labels (batch,) if the quantizer uses them."""
    classes = q.num_classes
    return None if classes is None else torch.arange(batch) % classes


def train(q: Quantizer, x: Tensor, seed: int = 2, **given) -> QuantizerOutput:
    """Run one training forward with a seed."""
    q.train()
    torch.manual_seed(seed)
    return q(x, **given)


def run(q: Quantizer, training: bool, x: Tensor, **given) -> QuantizerOutput:
    """Run one forward, with a seed if in training."""
    return train(q, x, **given) if training else q.eval()(x, **given)


def state_of(q: Quantizer) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers, including those not saved."""
    named = [*q.named_parameters(), *q.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


def compiled(call, backend="aot_eager"):
    """Compile a function to a single graph."""
    torch._dynamo.reset()
    # The default backend generates no code and needs no compiler, but gets the same
    # graph as any other backend.
    return torch.compile(call, fullgraph=True, backend=backend)


def gradients(q: Quantizer, x: Tensor, out: QuantizerOutput) -> dict[str, Tensor]:
    """Return the gradients of a scalar that depends on quantized values and loss."""
    weight = normal(*out.quantized.shape, seed=3)
    total = out.loss + (out.quantized.float() * weight).sum()
    inputs: dict[str, Tensor] = {
        n: p for n, p in q.named_parameters() if p.requires_grad
    }
    inputs["x"] = x
    grads = torch.autograd.grad(total, list(inputs.values()), allow_unused=True)
    return {
        name: grad for name, grad in zip(inputs, grads, strict=True) if grad is not None
    }


def same(got: Tensor, expected: Tensor, what: str) -> None:
    """Assert equality bit for bit; NaN equals NaN."""
    _same_kind(got, expected, what)
    agree = (got == expected) | ((got != got) & (expected != expected))
    _report(agree, got, expected, what)


def close(
    got: Tensor, expected: Tensor, what: str, rtol: float = 1e-4, atol: float = 1e-5
) -> None:
    """Assert equality up to rounding."""
    _same_kind(got, expected, what)
    agree = torch.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    _report(agree, got, expected, what)


def same_output(got: QuantizerOutput, expected: QuantizerOutput, what: str) -> None:
    """Assert that two outputs including statistics are equal bit for bit."""
    same(got.codes, expected.codes, f"{what}, codes")
    same(got.quantized, expected.quantized, f"{what}, quantized")
    same(got.loss, expected.loss, f"{what}, loss")
    same_tensors(got.stats, expected.stats, f"{what}, stats")


def same_tensors(got: dict, expected: dict, what: str) -> None:
    """Assert that two dicts of tensors are equal bit for bit."""
    assert got.keys() == expected.keys(), (
        f"{what}: got {sorted(got)}, expected {sorted(expected)}"
    )
    for name in expected:
        same(got[name], expected[name], f"{what} {name!r}")


def same_state(q: Quantizer, expected: dict[str, Tensor], what: str) -> None:
    """Assert that parameters and buffers equal an earlier copy."""
    same_tensors(state_of(q), expected, f"{what}, state")


def refused(call, *needs, kind=ConfigError):
    """Assert that a call raises an error of a kind that names all of ``needs``."""
    try:
        call()
    except Exception as error:
        assert isinstance(error, kind), (
            f"expected a {kind.__name__} naming {' and '.join(needs)}, "
            f"got {type(error).__name__}: {error}"
        )
        for need in needs:
            assert need in str(error), f"the error does not name {need!r}: {error}"
        return error
    raise AssertionError(f"expected a {kind.__name__} naming {needs[0]}, got none")


def _same_kind(got: Tensor, expected: Tensor, what: str) -> None:
    kinds = [f"{t.dtype} {tuple(t.shape)}" for t in (got, expected)]
    assert kinds[0] == kinds[1], f"{what}: got {kinds[0]}, expected {kinds[1]}"


def _report(agree: Tensor, got: Tensor, expected: Tensor, what: str) -> None:
    if bool(agree.all()):
        return
    index = tuple((~agree).nonzero()[0].tolist())
    raise AssertionError(
        f"{what}: {int((~agree).sum())} of {agree.numel()} values differ, the first at "
        f"{index}: got {got[index].item()}, expected {expected[index].item()}"
    )
