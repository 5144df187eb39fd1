"""Validation of the input tensors of a quantizer, before any state changes.

Each error states expected and actual values; ``name`` is the quantizer's class.
"""

from collections.abc import Collection, Iterable

import torch
from torch import Tensor

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.ops.devices import eager_on_cpu


def check_placement(name: str, device: torch.device | None, **tensors) -> None:
    """Raise `ShapeError` unless all tensors are dense and on the module's device.

    ``device`` is None for a module without tensors; then all tensors must be on the
    device of the first one.
    """
    owner = "the quantizer is"
    for what, x in tensors.items():
        if not isinstance(x, Tensor):
            continue
        if x.is_nested:
            raise ShapeError(
                f"{name}: {what} must be a dense tensor, got a nested one; pad it "
                "(torch.nested.to_padded_tensor) and give a mask of the valid frames"
            )
        if x.layout != torch.strided:
            raise ShapeError(
                f"{name}: {what} must be a dense tensor, got {x.layout}; "
                f"convert it with {what}.to_dense()"
            )
        if device is not None and x.device != device:
            raise ShapeError(
                f"{name}: {what} is on {x.device}, {owner} on {device}; move one of "
                "them with .to(device)"
            )
        if device is None:
            device, owner = x.device, f"{what} is"


def check_input(name: str, dim: int, x, mask) -> None:
    """Raise `ShapeError` unless x is float (..., dim) and mask fits it."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ShapeError(f"{name}: x must be a float tensor, got {got}")
    if x.dim() == 0 or x.shape[-1] != dim:
        raise ShapeError(
            f"{name}: x must be (..., {dim}), got {tuple(x.shape)}; "
            "the last axis holds the features"
        )
    if mask is not None and not _is_tensor(mask, torch.bool, x.shape[:-1]):
        raise ShapeError(
            f"{name}: mask must be bool {tuple(x.shape[:-1])}, True at valid "
            f"frames; got {_kind(mask)}"
        )


def check_labels(name: str, num_classes: int | None, x: Tensor, labels) -> None:
    """Raise unless labels are int64 (B,) and, in eager mode on a CPU, in range."""
    if x.dim() < 2 or not _is_tensor(labels, torch.int64, x.shape[:1]):
        raise ShapeError(
            f"{name}: labels must be int64 {tuple(x.shape[:1])}, one for each "
            f"utterance; got {_kind(labels)}"
        )
    if num_classes is None or not eager_on_cpu(labels) or not len(labels):
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{name}: labels must lie in [0, {num_classes}), got {low} to {high}"
        )


def check_codes(name: str, n_codebooks: int, codes) -> None:
    """Raise `ShapeError` unless codes are integers (..., K), K <= n_codebooks."""
    whole = isinstance(codes, Tensor) and not (
        codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool
    )
    if not whole:
        got = codes.dtype if isinstance(codes, Tensor) else type(codes).__name__
        raise ShapeError(f"{name}: codes must be an integer tensor, got {got}")
    if codes.dim() == 0 or not 1 <= codes.shape[-1] <= n_codebooks:
        raise ShapeError(
            f"{name}: codes must be (..., K) with 1 <= K <= {n_codebooks}, "
            f"got {tuple(codes.shape)}"
        )


def out_of_range(codes: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Detect codes outside [-1, size) of their codebook.

    Arguments
    ---------
    codes : torch.Tensor
        (N, K) int64.
    sizes : tuple of int
        Codes of each codebook, at least K.

    Returns
    -------
    torch.Tensor
        (N, K) bool.

    Example
    -------
    >>> out_of_range(torch.tensor([[3, 3], [-1, -2]]), (4, 2))
    tensor([[False,  True],
            [False,  True]])
    """
    limit: int | Tensor = sizes[0]
    if len(set(sizes)) > 1:
        limit = torch.tensor(sizes[: codes.shape[1]], device=codes.device)
    return (codes < -1) | (codes >= limit)


def check_held(name: str, entries, shape: tuple[int, int]) -> None:
    """Raise `ShapeError` unless entries are bool of ``shape`` or its last axis."""
    if not isinstance(entries, Tensor) or entries.dtype != torch.bool:
        raise ShapeError(f"{name}: entries must be a bool tensor, got {_kind(entries)}")
    if tuple(entries.shape) not in (shape, shape[1:]):
        raise ShapeError(
            f"{name}: entries must be bool {shape} or {shape[1:]}, True for codebook "
            f"vectors to keep; got {tuple(entries.shape)}"
        )


def check_vectors(name: str, vectors, shape: tuple[int, int, int]) -> None:
    """Raise `ShapeError` unless vectors are finite floats of ``shape``."""
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point():
        raise ShapeError(
            f"{name}: vectors must be a float tensor, got {_kind(vectors)}"
        )
    if tuple(vectors.shape) != shape:
        raise ShapeError(
            f"{name}: vectors must be {shape}, got {tuple(vectors.shape)}; "
            "codebook_vectors() returns the present ones"
        )
    if not bool(vectors.isfinite().all()):
        raise ShapeError(f"{name}: vectors must be finite, got NaN or infinity")


def signed_codes(codes: Tensor, codebook_size: int) -> Tensor:
    """Convert integer codes to int64; restore -1 from unsigned dtypes.

    Arguments
    ---------
    codes : torch.Tensor
        Any shape and integer dtype.
    codebook_size : int
        Codes in a codebook. The largest value of an unsigned dtype means -1 unless it
        is a valid code.

    Returns
    -------
    torch.Tensor
        int64.

    Example
    -------
    >>> signed_codes(torch.tensor([3, 255], dtype=torch.uint8), 16)
    tensor([ 3, -1])
    """
    signed = codes.long()
    limits = torch.iinfo(codes.dtype)
    # The conversion of uint64 already gives -1.
    if limits.min < 0 or limits.bits == 64 or limits.max < codebook_size:
        return signed
    return signed.masked_fill(signed == limits.max, -1)


def _is_tensor(x, dtype: torch.dtype, shape: tuple[int, ...]) -> bool:
    return isinstance(x, Tensor) and x.dtype == dtype and x.shape == shape


def _kind(x) -> str:
    if isinstance(x, Tensor):
        return f"{x.dtype} {tuple(x.shape)}"
    return type(x).__name__


def other_quantizer(
    state: Iterable[str], prefix: str, mine: Collection[str], name: str
) -> list[str]:
    """Detect a checkpoint that was written with another quantizer.

    Arguments
    ---------
    state : iterable of str
        The checkpoint's keys.
    prefix : str
        Prefix of the quantizer's keys.
    mine : collection of str
        State-dict keys of the module to load.
    name : str
        Name of its quantizer.

    Returns
    -------
    list of str
        One error message, or none.
    """
    given = {key for key in state if key.startswith(prefix)}
    known = {_member(key, prefix) for key in mine}
    # Quantizers may share some members, such as projections.
    foreign = {key for key in given if _member(key, prefix) not in known}
    if given.isdisjoint(mine):
        foreign = given
    if not foreign:
        return []
    return [
        f"the checkpoint was written with another quantizer than {name!r}: it holds "
        f"{min(foreign)}, expected {min(mine)}"
        if mine
        else f"the checkpoint holds {min(given)}, but {name!r} has no state: it was "
        "written with another quantizer"
    ]


def _member(key: str, prefix: str) -> str:
    """Return the first name of a key after the prefix."""
    return key.removeprefix(prefix).partition(".")[0]
