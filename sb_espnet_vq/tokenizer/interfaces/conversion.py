"""What the interfaces share: relative lengths, and tokens that are never -1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError, ShapeError
from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer
from sb_espnet_vq.tokenizer.models import load_tokenizer

# Of padding: embedding layers of other packages have no -1.
PADDING = 0


def of_source(source: AudioTokenizer | str | Path) -> AudioTokenizer:
    """Return a tokenizer, loaded if the source is a path or the id of a repository."""
    if isinstance(source, str | Path):
        return load_tokenizer(str(source))
    return source


def absolute(
    lengths: Tensor | None, rows: int, longest: int, up: bool = False
) -> Tensor | None:
    """Return relative lengths as numbers of steps.

    Arguments
    ---------
    lengths : torch.Tensor, optional
        (rows,) float in [0, 1], shares of the longest row.
    rows, longest : int
        Size of the batch.
    up : bool
        Whether a step that is filled in part counts, as the last frame of audio does.

    Returns
    -------
    torch.Tensor, optional
        (rows,) int64.

    Raises
    ------
    ShapeError
        If they are no relative lengths.

    Example
    -------
    >>> absolute(torch.tensor([1.0, 0.63]), 2, 100)
    tensor([100,  63])
    """
    if lengths is None:
        return None
    good = isinstance(lengths, Tensor) and lengths.shape == (rows,)
    if not good or not lengths.is_floating_point():
        got = type(lengths).__name__
        if isinstance(lengths, Tensor):
            got = f"{tuple(lengths.shape)} {lengths.dtype}"
        raise ShapeError(f"lengths must be ({rows},) float, relative; got {got}")
    # Rounding may exceed 1 by a little.
    if not bool(((lengths >= 0) & (lengths < 1.001)).all()):
        raise ShapeError(f"lengths must be relative, in [0, 1]; got {lengths.tolist()}")
    steps = lengths.double() * longest
    # Relative lengths in float32 are exact to less than a hundredth of a frame.
    steps = (steps - 0.01).ceil() if up else steps.round()
    return steps.long().clamp(0, longest)


def encode(
    tokenizer: AudioTokenizer,
    signals: Tensor,
    lengths: Tensor | None,
    n_codebooks: int | None,
) -> Tensor:
    """Return tokens that an embedding layer takes.

    Arguments
    ---------
    tokenizer : AudioTokenizer
    signals : torch.Tensor
        (B, L) float.
    lengths : torch.Tensor, optional
        (B,) int64, valid samples of each row.
    n_codebooks : int, optional
        Use only the first codebooks.

    Returns
    -------
    torch.Tensor
        (B, T, K) int64, 0 in padding.

    Raises
    ------
    ShapeError
        If a shape or dtype is wrong, or a frame has no code since it is not finite.
    """
    codes, counts = tokenizer.encode(signals, lengths, n_codebooks)
    steps = torch.arange(codes.shape[1], device=codes.device)
    valid = steps < counts[:, None]
    missing = valid & (codes < 0).any(2)
    if bool(missing.any()):
        rows = missing.any(1).nonzero().flatten().tolist()
        raise ShapeError(
            f"frames of the rows {rows} have no codes, since they are NaN or infinite"
        )
    return codes.masked_fill(~valid[..., None], PADDING)


def decode(tokenizer: AudioTokenizer, tokens: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the audio (B, L) of tokens (B, T, K), 0 in padding.

    Arguments
    ---------
    tokenizer : AudioTokenizer
        Of a codec.
    tokens : torch.Tensor
        (B, T, K) integers, not negative.
    lengths : torch.Tensor, optional
        (B,) relative lengths.

    Returns
    -------
    torch.Tensor
        (B, L) float32.

    Raises
    ------
    ConfigError
        If the model is no codec.
    ShapeError
        If a shape or dtype is wrong.
    ValueError
        If a code is negative or too large.
    """
    refuse_codes(tokens, tokenizer.codebook_sizes)
    frames = absolute(lengths, len(tokens), tokens.shape[1], up=True)
    if frames is None:
        frames = tokens.new_full((len(tokens),), tokens.shape[1], dtype=torch.int64)
    return tokenizer.decode(tokens, frames)


def mono(values: Tensor, name: str) -> Tensor:
    """Return (B, L) of (B, 1, L) or (B, L)."""
    if isinstance(values, Tensor) and values.dim() == 3 and values.shape[1] == 1:
        return values[:, 0]
    if not isinstance(values, Tensor) or values.dim() != 2:
        got = getattr(values, "shape", type(values))
        raise ShapeError(f"{name} must be (B, 1, L) or (B, L), got {got}")
    return values


def refuse_codes(tokens: Tensor, sizes: Sequence[int]) -> None:
    """Raise an error unless tokens are (B, T, K) codes of the first K codebooks.

    Arguments
    ---------
    tokens : torch.Tensor
    sizes : sequence of int
        Codes of each codebook that tokens may be of.
    """
    good = isinstance(tokens, Tensor) and tokens.dim() == 3 and len(tokens)
    if not good or not 1 <= tokens.shape[2] <= len(sizes) or not _integer(tokens):
        got = type(tokens).__name__
        if isinstance(tokens, Tensor):
            got = f"{tuple(tokens.shape)} {tokens.dtype}"
        raise ShapeError(
            f"tokens must be (B, T, K) integers with K in [1, {len(sizes)}], got {got}"
        )
    limits = torch.tensor(sizes[: tokens.shape[2]], device=tokens.device)
    if bool(((tokens < 0) | (tokens >= limits)).any()):
        raise ValueError(
            f"tokens must be at least 0 and below {tuple(limits.tolist())}, got "
            f"{int(tokens.min())} to {int(tokens.max())}; padding is given by lengths"
        )


def one_size(tokenizer: AudioTokenizer, name: str) -> int:
    """Return the size of all codebooks; `name` is the interface, for errors."""
    sizes = set(tokenizer.codebook_sizes)
    if len(sizes) > 1:
        raise ConfigError(
            f"{name} has codebooks of one size, but this model has "
            f"{tokenizer.codebook_sizes}"
        )
    return sizes.pop()


def _integer(tokens: Tensor) -> bool:
    return not (tokens.is_floating_point() or tokens.dtype == torch.bool)
