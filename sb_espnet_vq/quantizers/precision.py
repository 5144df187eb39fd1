"""The precision in which quantizers compute."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.backends import cuda, cudnn, mkldnn

from sb_espnet_vq.ops.scores import scores

# Projections to or from fewer channels are narrow.
_NARROW = 32


def full_precision(x: Tensor) -> AbstractContextManager:
    """Return a context that disables reduced precision on the device of ``x``.

    Rounded distances would change codes, so autocast and TF32 are disabled. During
    compilation only autocast is disabled, since the compiler fixes the precision of
    matrix products.

    Arguments
    ---------
    x : torch.Tensor
        Tensor on the device in question.

    Returns
    -------
    context manager
    """
    device = x.device.type
    has_autocast = _has_autocast(device)
    autocast = torch.autocast(device, enabled=False) if has_autocast else nullcontext()
    if torch.compiler.is_compiling():
        return autocast
    return _exact_products(device, autocast)


def _has_autocast(device: str) -> bool:
    # torch before 2.12 cannot trace `is_autocast_available`; of the devices that can
    # be traced, only meta has no autocast.
    if torch.compiler.is_compiling():
        return device != "meta"
    return torch.amp.is_autocast_available(device)


class _ExactMatmul:
    """Disables a backend's reduced-precision products while any thread is inside.

    The setting is global, and DataParallel calls a module from several threads.
    `products` holds the setting of matrix products, and `backend` the one that they
    inherit if they have none.
    """

    def __init__(self, products: Any, backend: Any):
        self._products, self._backend = products, backend
        self._lock = threading.Lock()
        self._inside = 0
        self._before = "ieee"

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = self._products.fp32_precision
                if self._before not in _EXACT:
                    self._products.fp32_precision = "ieee"
            self._inside += 1

    def __exit__(self, *_: Any) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._before not in _EXACT:
                # An inherited value must follow the backend's own setting again.
                inherited = self._backend.fp32_precision == self._before
                self._products.fp32_precision = "none" if inherited else self._before


_EXACT = ("ieee", "none")
# torch replaces this module by an object with settings.
_CPU: Any = mkldnn
# torch calls the setting of the whole CUDA backend that of cuDNN.
_EXACT_MATMUL = {
    "cuda": _ExactMatmul(cuda.matmul, cudnn),
    "cpu": _ExactMatmul(_CPU.matmul, _CPU),
}


@contextmanager
def _exact_products(device: str, autocast: AbstractContextManager) -> Iterator[None]:
    with autocast, _EXACT_MATMUL.get(device, nullcontext()):
        yield


def table_dtype(table: Tensor) -> torch.dtype:
    """Return the dtype for computing with ``table``: float64 stays, else float32.

    Example
    -------
    >>> table_dtype(torch.zeros(1, dtype=torch.bfloat16))
    torch.float32
    """
    return torch.float64 if table.dtype == torch.float64 else torch.float32


def widen_buffers(module: nn.Module, before: dict[int, dict]) -> None:
    """Convert buffers that were cast to half precision back to float32.

    Arguments
    ---------
    module : torch.nn.Module
        Its submodules are converted too.
    before : dict
        ``id`` of a submodule to its buffers before the cast; their values are used if
        present.

    Example
    -------
    >>> norm = nn.BatchNorm1d(2).half()
    >>> widen_buffers(norm, {})
    >>> norm.running_mean.dtype
    torch.float32
    """
    for owner in module.modules():
        for name, buffer in owner._buffers.items():
            if buffer is None or buffer.dtype not in (torch.float16, torch.bfloat16):
                continue
            source = before.get(id(owner), {}).get(name, buffer)
            owner._buffers[name] = source.to(buffer.device, torch.float32)


def project(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer, or the identity, in the dtype of ``x``.

    Calling the layer would fail if its weights had a lower precision than ``x``.

    Arguments
    ---------
    module : torch.nn.Linear or torch.nn.Identity
        The layer.
    x : torch.Tensor
        (N, D) float.

    Returns
    -------
    torch.Tensor
        (N, D').

    Example
    -------
    >>> project(nn.Linear(3, 2).bfloat16(), torch.zeros(1, 3)).dtype
    torch.float32
    """
    if not isinstance(module, nn.Linear):
        return x
    bias = None if module.bias is None else module.bias.to(x.dtype)
    weight = module.weight.to(x.dtype)
    # A product with few columns is bound by memory, and oneDNN copies its operands.
    return (F.linear if min(weight.shape) < _NARROW else scores)(x, weight, bias)
