"""What depends on where a tensor is, and on whether operations are recorded."""

import torch
from torch import Tensor


def tracing() -> bool:
    """Tell whether operations are being recorded, so that no value may be read.

    By torch.compile, torch.export or torch.jit.trace. What is decided by the shape or
    the values of one input would be fixed for all others.

    Returns
    -------
    bool

    Example
    -------
    >>> tracing()
    False
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def eager_on_cpu(x: Tensor) -> bool:
    """Tell whether values of ``x`` can be read at no cost.

    On a GPU the host would wait for the device; while tracing there are no values.

    Arguments
    ---------
    x : torch.Tensor
        Any tensor.

    Returns
    -------
    bool

    Example
    -------
    >>> eager_on_cpu(torch.zeros(1))
    True
    """
    # A subclass, a fake tensor say, may have no values either.
    plain = type(x) in (Tensor, torch.nn.Parameter)
    return plain and x.device.type == "cpu" and not tracing()


def version_of(x: Tensor) -> object:
    """Return a value that changes when ``x`` is replaced or written in place.

    Arguments
    ---------
    x : torch.Tensor
        Any tensor. A write through ``x.data`` is not seen.

    Returns
    -------
    object
        To be compared by ``==``.

    Example
    -------
    >>> x = torch.zeros(1)
    >>> before = version_of(x)
    >>> version_of(x) == before, version_of(x.add_(1)) == before
    (True, False)
    """
    # Tensors made in inference mode count no writes: never equal to another.
    return object() if x.is_inference() else (id(x), x._version)
