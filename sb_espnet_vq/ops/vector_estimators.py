"""Gradient estimators that depend on the distance or angle to the codebook vector."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sb_espnet_vq.ops.estimators import straight_through

# Small, so that the value stays near the codebook vector.
_DIRECTION_VARIANCE = 1e-3


def rotate(x: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` bit for bit; its gradient is rotated and scaled on its way to x.

    Fifty et al. 2024, https://arxiv.org/abs/2410.06424, section 4.2: the value is
    regarded as x times a constant, the rotation in the plane of both that maps the
    direction of x to that of the value, times the ratio of their norms. A row of
    zeros has no direction and gets the gradient unchanged.

    Arguments
    ---------
    x : torch.Tensor
        (N, D).
    value : torch.Tensor
        (N, D); gets no gradient.

    Returns
    -------
    torch.Tensor
        (N, D).

    Example
    -------
    >>> x = torch.tensor([[1.0, 0.0]], requires_grad=True)
    >>> y = rotate(x, torch.tensor([[0.0, 2.0]]))
    >>> y[0, 1].backward()
    >>> torch.allclose(x.grad, torch.tensor([[2.0, 0.0]]), atol=1e-6)
    True
    """
    value = value.detach()
    with torch.no_grad():
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        ratio = torch.linalg.vector_norm(value, dim=1, keepdim=True) / norm
        ratio = torch.where(norm > 0, ratio, 1)
        start, end = F.normalize(x, dim=1), F.normalize(value, dim=1)
        middle = F.normalize(start + end, dim=1)
    # Two reflections: start to -end, and -end to end.
    turned = x - 2 * middle * (middle * x).sum(1, keepdim=True)
    turned = (turned + 2 * end * (start * x).sum(1, keepdim=True)) * ratio
    return straight_through(torch.where(norm > 0, turned, x), value)


def substitute_noise(x: Tensor, value: Tensor) -> Tensor:
    """Return a point in a random direction from x, as far away as ``value``.

    Vali and Bäckström 2022, "NSVQ", IEEE Access 10: the distance has gradients to both
    x and the value.

    Arguments
    ---------
    x, value : torch.Tensor
        (N, D).

    Returns
    -------
    torch.Tensor
        (N, D).

    Example
    -------
    >>> y = substitute_noise(torch.zeros(1, 3), torch.tensor([[0.0, 3.0, 4.0]]))
    >>> bool(torch.isclose(y.norm(), torch.tensor(5.0)))
    True
    """
    return _as_far_as(x, value, torch.randn_like(value))


def perturb_direction(x: Tensor, value: Tensor) -> Tensor:
    """Return a point as far from x as ``value``, in almost the same direction.

    Vali et al. 2025, "DiVeQ", https://arxiv.org/abs/2509.26469: as `substitute_noise`,
    but the direction is that to the value plus noise of variance 1e-3.

    Arguments
    ---------
    x, value : torch.Tensor
        (N, D).

    Returns
    -------
    torch.Tensor
        (N, D).

    Example
    -------
    >>> y = perturb_direction(torch.zeros(1, 3), torch.tensor([[0.0, 3.0, 4.0]]))
    >>> bool(torch.isclose(y.norm(), torch.tensor(5.0)))
    True
    """
    noise = torch.randn_like(value) * _DIRECTION_VARIANCE**0.5
    return _as_far_as(x, value, value - x + noise)


def _as_far_as(x: Tensor, value: Tensor, direction: Tensor) -> Tensor:
    square = (value - x).square().sum(1, keepdim=True)
    # The gradient of a root at 0 is infinite.
    distance = square.clamp(min=torch.finfo(square.dtype).tiny).sqrt()
    return x + distance * F.normalize(direction.detach(), dim=1)
