"""The gradient estimators by name."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.vector_estimators import (
    perturb_direction,
    rotate,
    substitute_noise,
)


class Estimator(NamedTuple):
    """How gradients pass a quantizer.

    Arguments
    ---------
    at_level : callable
        Function of the input z (N, C) of a codebook and its vectors (N, C), which
        returns the vectors with the gradient of the estimator.
    at_end : callable, optional
        Function of the frames (N, D) and the values (N, D), which returns the values
        with noise; training only.
    """

    at_level: Callable[[Tensor, Tensor], Tensor]
    at_end: Callable[[Tensor, Tensor], Tensor] | None = None


def _pass_to_input(z: Tensor, vectors: Tensor) -> Tensor:
    return straight_through(z, vectors.detach())


def _pass_to_vectors(z: Tensor, vectors: Tensor) -> Tensor:
    return vectors


#: In training; in eval mode those with noise are as ``ste``.
ESTIMATORS = {
    "ste": Estimator(_pass_to_input),
    "rotation": Estimator(rotate),
    "nsvq": Estimator(_pass_to_vectors, substitute_noise),
    "diveq": Estimator(_pass_to_vectors, perturb_direction),
}


def find_estimator(name: str, training: bool) -> Estimator:
    """Return an estimator, in eval mode one without noise.

    Example
    -------
    >>> find_estimator("nsvq", training=False) is ESTIMATORS["ste"]
    True
    """
    found = ESTIMATORS[name]
    return found if training or found.at_end is None else ESTIMATORS["ste"]
