"""Binary spherical codes: the signs of vectors on the sphere.

Zhao et al. 2024, https://arxiv.org/abs/2406.07548, section 3. Written so that
torch.jit.script supports it.
"""

import torch
from torch import Tensor


def unit_vectors(x: Tensor) -> Tensor:
    """Return vectors divided by their norm.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) float.

    Returns
    -------
    torch.Tensor
        (N, D); a vector of zeros, which has no direction, stays as it is.

    Example
    -------
    >>> unit_vectors(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    # A tiny divisor would blow up the gradient.
    return x / torch.where(norm > 1e-12, norm, 1.0)


def sign_codes(u: Tensor, bit_values: Tensor) -> Tensor:
    """Return the code of each vector's signs; 0 counts as negative.

    Arguments
    ---------
    u : torch.Tensor
        (N, D) float.
    bit_values : torch.Tensor
        (D,) int64, what each positive sign adds.

    Returns
    -------
    torch.Tensor
        (N,) int64.

    Example
    -------
    >>> sign_codes(torch.tensor([[0.5, -1.0, 2.0]]), torch.tensor([4, 2, 1]))
    tensor([5])
    """
    # Integer sums: float32 is exact only up to 2**24.
    return torch.where(u > 0, bit_values, 0).sum(-1)


def sign_logits(u: Tensor, inv_temperature: float) -> Tensor:
    """Return the log-odds of each sign in the soft assignment of unit vectors.

    The codes +1/sqrt(D) and -1/sqrt(D) differ by 2/sqrt(D) in one bit, and the softmax
    takes 2 * inv_temperature * u . c.

    Arguments
    ---------
    u : torch.Tensor
        (N, D) unit vectors.
    inv_temperature : float
        Higher is harder.

    Returns
    -------
    torch.Tensor
        (N, D).

    Example
    -------
    >>> sign_logits(torch.tensor([[0.5, -0.5, 0.5, 0.5]]), 1.0)
    tensor([[ 1., -1.,  1.,  1.]])
    """
    return u * (4 * inv_temperature / u.shape[-1] ** 0.5)
