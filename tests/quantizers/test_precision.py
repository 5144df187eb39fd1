"""Full precision whatever the surroundings."""

import threading
import warnings
from contextlib import nullcontext

import pytest
import torch
from random_frames import normal

from sb_espnet_vq import ShapeError, build
from sb_espnet_vq.quantizers.precision import _exact_products, full_precision

# --- what all quantizers inherit from their base


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_default_dtype_changes_no_loss(dtype):
    q = build("vq", dim=8, codebook_size=16)
    x = normal(50, 8)
    expected = q.eval()(x).loss
    try:
        torch.set_default_dtype(dtype)
        loss = q(x).loss
    finally:
        torch.set_default_dtype(torch.float32)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def test_losses_of_doubles_are_not_rounded():
    x = normal(3, 8, dtype=torch.float64).requires_grad_()
    q = build("entropy_vq", dim=8, codebook_size=16, entropy_weight=0).double()
    out = q(x)
    expected = 0.25 * (x - q.decode(out.codes)).square().mean()
    (got,) = torch.autograd.grad(out.loss, x)
    (wanted,) = torch.autograd.grad(expected, x)
    # One rounding to float32, of the loss that the trainer gets.
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_short_products_are_not_used(precision, monkeypatch):
    """TF32 and the like, which trainers switch on, would flip codes."""
    q = build("vq", dim=8, codebook_size=16)
    search, seen = q._codebook.search, []

    def look(x):
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return search(x)

    monkeypatch.setattr(q._codebook, "search", look)
    with warnings.catch_warnings():
        # That it serves no CPU.
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision(precision)
        try:
            before = torch.backends.mkldnn.matmul.fp32_precision
            q(normal(2, 30, 8))
            q.encode(normal(2, 30, 8))
            after = torch.backends.mkldnn.matmul.fp32_precision
            with pytest.raises(ShapeError):
                q(normal(2, 30, 9))
            assert torch.get_float32_matmul_precision() == precision
        finally:
            torch.set_float32_matmul_precision("highest")
    assert after == before and set(seen) == {"ieee"}


def test_an_inherited_precision_stays_inherited():
    backends = torch.backends
    try:
        # Nothing of its own, whatever ran before.
        backends.mkldnn.matmul.fp32_precision = "none"
        backends.fp32_precision = "tf32"
        build("vq", dim=8, codebook_size=16)(normal(2, 30, 8))
        assert backends.mkldnn.matmul.fp32_precision == "tf32"
        backends.fp32_precision = "ieee"
        assert backends.mkldnn.matmul.fp32_precision == "ieee"
    finally:
        backends.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("of", ["products", "backend", "torch"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_precision_of_every_device_is_restored(device, of):
    """The settings of a GPU are there without one."""
    backends = torch.backends
    products = {"cpu": backends.mkldnn, "cuda": backends.cuda}[device].matmul
    backend = {"cpu": backends.mkldnn, "cuda": backends.cudnn}[device]
    owners = {"products": products, "backend": backend, "torch": backends}
    saved = [owner.fp32_precision for owner in owners.values()]
    try:
        for owner in owners.values():
            owner.fp32_precision = "none"
        owners[of].fp32_precision = "tf32"
        with _exact_products(device, nullcontext()):
            assert products.fp32_precision == "ieee"
        assert products.fp32_precision == "tf32"
        owners[of].fp32_precision = "none"
        assert products.fp32_precision == "none"
    finally:
        for owner, value in zip(owners.values(), saved, strict=True):
            owner.fp32_precision = value


def test_threads_hold_the_precision_for_each_other():
    x = torch.zeros(1)
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with full_precision(x):
            inside.set()
            leave.wait(10)

    setting = torch.backends.mkldnn.matmul
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision("medium")
    try:
        thread = threading.Thread(target=stay)
        with full_precision(x):
            thread.start()
            assert inside.wait(10)
        assert setting.fp32_precision == "ieee"
        leave.set()
        thread.join()
        assert setting.fp32_precision == "bf16"
    finally:
        leave.set()
        torch.set_float32_matmul_precision("highest")
