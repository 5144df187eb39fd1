"""Statistics of code usage."""

import torch
from torch import Tensor

from sb_espnet_vq.ops.collectives import sum_over_ranks


def code_counts(codes: Tensor, weight: Tensor, size: int) -> Tensor:
    """Count the uses of each code in each codebook.

    Arguments
    ---------
    codes : torch.Tensor
        (N, K) int64 in [0, size), even where the weight is 0.
    weight : torch.Tensor
        (N,) or (N, K), 1 for valid codes, else 0.
    size : int
        Number of codes in a codebook.

    Returns
    -------
    torch.Tensor
        (K, size) in the dtype of ``weight``.

    Example
    -------
    >>> code_counts(torch.tensor([[0], [2], [2]]), torch.ones(3), 3)
    tensor([[1., 0., 2.]])
    """
    n_codebooks = codes.shape[1]
    if weight.dim() == 1:
        weight = weight[:, None].expand(-1, n_codebooks)
    offset = torch.arange(n_codebooks, device=codes.device) * size
    counts = weight.new_zeros(n_codebooks * size)
    counts.index_add_(0, (codes + offset).reshape(-1), weight.reshape(-1))
    return counts.view(n_codebooks, size)


def code_shares(
    codes: Tensor, size: int, shared: bool, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return the relative frequency of each code in each codebook.

    Arguments
    ---------
    codes : torch.Tensor
        (..., K) int64 in [-1, size); -1 does not count.
    size : int
        Codes in a codebook.
    shared : bool
        Count over all ranks, each of which must call this function.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    torch.Tensor
        (K, size); 0 where nothing was counted.

    Example
    -------
    >>> code_shares(torch.tensor([[0], [2], [2], [2], [-1]]), 3, shared=False)
    tensor([[0.2500, 0.0000, 0.7500]])
    """
    flat = codes.flatten(0, -2)
    counts = code_counts(flat.clamp(min=0), (flat >= 0).to(dtype), size)
    if shared:
        counts = sum_over_ranks(counts)
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def usage_of_counts(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return perplexity and number of used codes, averaged over codebooks.

    Arguments
    ---------
    counts : torch.Tensor
        (K, V) uses of each code.

    Returns
    -------
    perplexity : torch.Tensor
        Scalar, exp of the entropy of usage: 1 if only one code is used, V if all are
        used equally, 0 if nothing was counted.
    used : torch.Tensor
        Scalar, number of codes used at least once.

    Example
    -------
    >>> usage_of_counts(torch.tensor([[2.0, 2.0, 0.0]]))
    (tensor(2.), tensor(2.))
    """
    total = counts.sum(1, keepdim=True)
    probs = counts / total.clamp(min=1)
    perplexity = torch.special.entr(probs).sum(1).exp() * (total[:, 0] > 0)
    used = (counts > 0).sum(1).to(counts.dtype)
    return perplexity.mean(), used.mean()


def usage_of_codes(codes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same statistics for codebooks too large for a table of counts.

    Each frame's code is counted among the sorted codes; the entropy of usage is the
    mean over frames of -log(count / frames).

    Arguments
    ---------
    codes : torch.Tensor
        (N, K) int64, not negative where valid.
    valid : torch.Tensor
        (N,) bool.

    Returns
    -------
    perplexity, used : torch.Tensor
        Scalars as in `usage_of_counts`.

    Example
    -------
    >>> codes = torch.tensor([[7], [2**60], [7]])
    >>> perplexity, used = usage_of_codes(codes, torch.tensor([True, True, False]))
    >>> round(perplexity.item(), 3), used.item()
    (2.0, 2.0)
    """
    columns = torch.where(valid[:, None], codes, -1).t().contiguous()
    order = columns.sort(1).values
    count = torch.searchsorted(order, columns, right=True)
    count = (count - torch.searchsorted(order, columns)).float()
    weight = valid.to(count.dtype)
    total = weight.sum()
    surprise = -(count / total.clamp(min=1)).log()
    mean_surprise = (surprise * weight).sum(1) / total.clamp(min=1)
    perplexity = mean_surprise.exp() * (total > 0)
    used = (weight / count).sum(1)
    return perplexity.mean(), used.mean()
