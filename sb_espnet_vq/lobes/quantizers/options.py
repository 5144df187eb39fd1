"""Shape of the codes that adapters return."""

from torch import Tensor


def squeeze_codes(codes: Tensor) -> Tensor:
    """Drop the last axis of codes (..., K) if there is one codebook.

    Arguments
    ---------
    codes : torch.Tensor
        (..., K) int64.

    Returns
    -------
    torch.Tensor
        (...) if K is 1, else (..., K).
    """
    return codes[..., 0] if codes.shape[-1] == 1 else codes
