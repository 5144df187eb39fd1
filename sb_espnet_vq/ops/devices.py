"""Tests of device and tracing state."""

import torch
from torch import Tensor


def tracing() -> bool:
    """Tell whether torch.compile, torch.export or torch.jit.trace is recording.

    Decisions by the shape or values of one input would become constants of the graph.

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
    # Inference tensors have no version counter: always report a change.
    return object() if x.is_inference() else (id(x), x._version)
