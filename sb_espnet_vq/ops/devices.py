"""Tests of device and tracing state."""

import weakref

import torch
from torch import Tensor


def tracing() -> bool:
    """Whether torch.compile, torch.export or torch.jit.trace is recording.

    Branches on the shape or values of an input would become constants of the graph.

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
    """Whether values of ``x`` can be read without cost.

    On a GPU reading synchronizes with the device; while tracing there are no values.

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
    # A subclass, such as a fake tensor, may have no values either.
    plain = type(x) in (Tensor, torch.nn.Parameter)
    return plain and x.device.type == "cpu" and not tracing()


class TensorVersion:
    """Detects whether a tensor has been replaced or written to in place.

    Writes through ``x.data`` are not detected.

    Arguments
    ---------
    x : torch.Tensor
        Any tensor.

    Example
    -------
    >>> x = torch.zeros(1)
    >>> version = TensorVersion(x)
    >>> version.is_of(x), version.is_of(x.add_(1))
    (True, False)
    """

    def __init__(self, x: Tensor):
        self._tensor = weakref.ref(x)
        # Inference tensors have no version counter.
        self._version = None if x.is_inference() else x._version

    def __reduce__(self):
        # Weak references cannot be pickled: a copy matches no tensor.
        return TensorVersion, (torch.empty(0),)

    def is_of(self, x: Tensor) -> bool:
        """Whether ``x`` is that tensor with unchanged values."""
        return (
            self._version is not None
            and self._tensor() is x
            and self._version == x._version
        )
