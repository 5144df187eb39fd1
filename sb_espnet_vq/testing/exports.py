"""Checks of torch.export, torch.jit.trace and ONNX."""

import io
import logging
import warnings
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sb_espnet_vq.testing.helpers import (
    close,
    frames,
    labels_for,
    make_started,
    same,
    some_mask,
)
from sb_espnet_vq.testing.registry import contract_check


@contract_check(slow=True)
def exports(name, options):
    """torch.export supports encode and decode with any batch size and length."""
    q = make_started(name, options).eval()
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    x, mask, labels = frames(q, 3, 40), some_mask(3, 40), labels_for(q, 3)
    axes = (
        {0: batch, 1: time},
        {0: batch, 1: time},
        labels if labels is None else {0: batch},
    )
    encode = _exported(_Encode(q), (x, mask, labels), axes)
    decode = _exported(_Decode(q), (q.encode(x),), ({0: batch, 1: time},))
    for lead in ((3, 40), (5, 17), (2, 300)):
        x, mask, labels = frames(q, *lead), some_mask(*lead), labels_for(q, lead[0])
        codes = q.encode(x, mask=mask, labels=labels)
        same(encode(x, mask, labels), codes, f"exported encode of {lead}")
        close(decode(codes), q.decode(codes), f"exported decode of {lead}")


@contract_check(slow=True)
def jit_traces(name, options):
    """torch.jit.trace supports forward in eval, encode and decode with any B and T."""
    q = make_started(name, options).eval()
    forward = _jit_traced(_Forward(q), _batch(q, 3, 40))
    encode = _jit_traced(_Encode(q), _batch(q, 3, 40))
    decode = _jit_traced(_Decode(q), (q.encode(frames(q, 3, 40)),))
    for lead in _LEADS:
        batch = _batch(q, *lead)
        quantized, codes, loss = _Forward(q)(*batch)
        got = forward(*batch)
        close(got[0], quantized, f"traced forward of {lead}, quantized")
        same(got[1], codes, f"traced forward of {lead}, codes")
        close(got[2], loss, f"traced forward of {lead}, loss")
        same(encode(*batch), codes, f"traced encode of {lead}")
        close(decode(codes), q.decode(codes), f"traced decode of {lead}")
        close(decode(*_two_bad(q, codes)), _two_nan(q, codes), "codes out of range")


@contract_check(slow=True, needs=("onnx", "onnxscript", "onnxruntime"), cpu_only=True)
def exports_to_onnx(name, options):
    """onnxruntime runs encode and decode, exported with any batch size and length."""
    q = make_started(name, options).eval()
    encode = _onnx(_Encode(q), _batch(q, 3, 40))
    decode = _onnx(_Decode(q), (q.encode(frames(q, 3, 40)),))
    for lead in _LEADS:
        batch = _batch(q, *lead)
        codes = _Encode(q)(*batch)
        same(encode(*batch), codes, f"encode of {lead} in onnxruntime")
        close(decode(codes), q.decode(codes), f"decode of {lead} in onnxruntime")
        close(decode(*_two_bad(q, codes)), _two_nan(q, codes), "codes out of range")
    batch[0][0, 0, 0] = float("nan")
    same(encode(*batch), _Encode(q)(*batch), "codes of a frame that is not finite")


_LEADS = ((3, 40), (5, 17), (1, 1), (2, 300))


def _batch(q, *lead):
    """Return the input of the modules below: frames, mask and, if used, labels."""
    labels = labels_for(q, lead[0])
    batch = frames(q, *lead), some_mask(*lead)
    return batch if labels is None else (*batch, labels)


def _two_bad(q, codes):
    codes = codes.clone()
    codes[0, 0, 0], codes[-1, -1, -1] = q.codebook_size, -2
    return (codes,)


def _two_nan(q, codes):
    value = q.decode(codes)
    value[0, 0] = value[-1, -1] = float("nan")
    return value


class _Forward(nn.Module):
    def __init__(self, quantizer):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x, mask, labels=None):
        out = self.quantizer(x, mask=mask, labels=labels)
        return out.quantized, out.codes, out.loss


class _Encode(nn.Module):
    def __init__(self, quantizer):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x, mask, labels=None):
        return self.quantizer.encode(x, mask=mask, labels=labels)


class _Decode(nn.Module):
    def __init__(self, quantizer):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, codes):
        return self.quantizer.decode(codes)


def _exported(module, args, dynamic_shapes):
    torch._dynamo.reset()
    return torch.export.export(module, args, dynamic_shapes=dynamic_shapes).module()


def _jit_traced(module, args):
    stored = io.BytesIO()
    with warnings.catch_warnings():
        # torch warns about shape checks, which hold for all batches, and about the
        # deprecation of TorchScript.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module.eval(), args, check_trace=False)
        torch.jit.save(traced, stored)
        stored.seek(0)
        return torch.jit.load(stored)


def _onnx(module, args):
    """Return a function that runs the exported module in onnxruntime."""
    import onnxruntime

    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    axes = tuple({0: batch, 1: time} if x.dim() > 1 else {0: batch} for x in args)
    torch._dynamo.reset()
    with _quietly():
        program: Any = torch.onnx.export(
            module.eval(), args, dynamo=True, dynamic_shapes=axes, verbose=False
        )
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]

    def run(*inputs):
        feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    return run


@contextmanager
def _quietly():
    # The exporter warns about its own dependencies and missing torchvision operators.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
