"""Checks of dtypes and autocast."""

import torch

from sb_espnet_vq.testing.helpers import (
    frames,
    gradients,
    make_started,
    run,
    same,
    same_output,
    same_state,
    same_tensors,
    state_of,
    train,
)
from sb_espnet_vq.testing.registry import contract_check

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@contract_check
def input_dtypes(name, options):
    """quantized has the float dtype of the input; decode returns it in float32."""
    for training in (True, False):
        for dtype in _DTYPES:
            q = make_started(name, options)
            x = frames(q, 3, 40).to(dtype)
            out = run(q, training, x)
            assert out.quantized.dtype == dtype, (
                f"quantized is {out.quantized.dtype} for {dtype}"
            )
            assert out.loss.dtype == torch.float32, f"loss is {out.loss.dtype}"
            same(q.encode(x), q.encode(x.float()), f"codes of {dtype} input")
            if not training:
                value = q.decode(out.codes)
                assert value.dtype == torch.float32, f"decode gives {value.dtype}"
                same(value.to(dtype), out.quantized, f"decoded codes of {dtype} input")


@contract_check
def module_dtypes(name, options):
    """A module cast to another dtype encodes, decodes and trains."""
    for dtype in _DTYPES:
        q = make_started(name, options).to(dtype).eval()
        x = frames(q, 3, 40).to(dtype)
        out = q(x)
        same(out.codes, q.encode(x), f"codes of a {dtype} module")
        value = q.decode(out.codes)
        same(value.to(dtype), out.quantized, f"decoded codes of a {dtype} module")
        trained = train(q, x)
        assert bool(trained.loss.isfinite()), f"loss of a {dtype} module not finite"


@contract_check
def double_stays_double(name, options):
    """A float64 module computes in float64 throughout, and so does decode."""
    single, q = make_started(name, options), make_started(name, options).double()
    for module in (single, q):
        module.eval()
    x = frames(q, 3, 40)
    same(q.encode(x.double()), single.encode(x), "codes in float64")
    value = q(x.double()).quantized
    narrow = single(x).quantized.double()
    assert torch.allclose(value, narrow, rtol=1e-4, atol=1e-5), (
        "the float64 module gives other values than the float32 one"
    )
    if any(p.is_floating_point() for p in q.state_dict().values()):
        decoded = q.decode(q.encode(x.double()))
        assert decoded.dtype == torch.float64, (
            f"decode of a float64 module gives {decoded.dtype}"
        )


@contract_check
def autocast(name, options):
    """Autocast changes no code, value, loss, gradient or buffer; decode is float32."""
    for training in (True, False):
        results = []
        for enabled in (True, False):
            q = make_started(name, options)
            # Enough frames for rounding to bfloat16 to change some codes.
            x = frames(q, 8, 250).requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                out = run(q, training, x)
                codes = q.encode(x)
                value = q.decode(codes)
            assert value.dtype == torch.float32, f"decode gives {value.dtype}"
            results.append((out, codes, value, gradients(q, x, out), q))
        (out, codes, value, grads, q), (out0, codes0, value0, grads0, q0) = results
        what = f"under autocast, training={training}"
        same_output(out, out0, what)
        same(codes, codes0, f"{what}, encode")
        same(value, value0, f"{what}, decode")
        same_tensors(grads, grads0, f"{what}, gradient")
        same_state(q, state_of(q0), what)
