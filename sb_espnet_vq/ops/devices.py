"""Tests of device and tracing state."""

import weakref

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


class TensorVersion:
    """Recognizes a tensor that was neither replaced nor written to since.

    Writes in place count, but for those through ``x.data``.

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
        """Tell whether ``x`` is that tensor with unchanged values."""
        return (
            self._version is not None
            and self._tensor() is x
            and self._version == x._version
        )
