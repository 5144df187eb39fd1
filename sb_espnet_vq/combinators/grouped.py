"""`grouped`: product quantization, a quantizer for each part of the channels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.combinators.composed import Composed, build_part, run_part
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import Quantized
from sb_espnet_vq.quantizers.options import positive_int


class Grouped(Composed):
    """Product quantizer: the channels in groups, with a quantizer for each.

    Jégou et al. 2011, "Product quantization for nearest neighbor search", section
    II-B. Over `rvq` it is the group-residual quantizer of HiFi-Codec, Yang et al. 2023,
    https://arxiv.org/abs/2305.02765, section 3.2; over `fsq` it is grouped FSQ.

    The codes are ordered by level: the first codes of all groups, then the second ones.
    The first n codes are therefore the coarse ones, and a group that has none of them
    contributes 0. Gradients are those of the quantizers.

    Arguments
    ---------
    dim : int
        Width of the frames, a multiple of ``n_groups``.
    codebook_size : int
        Codes in each codebook, for quantizers that choose no other number.
    n_codebooks : int, optional
        Codes of a frame in all groups, if the quantizer can have several: a multiple of
        ``n_groups``; fewer give one for each group. ``n_codebooks`` in
        ``quantizer_conf`` is the number of one group and takes precedence. Default:
        that of the quantizer for each group.
    n_groups : int, optional
        Number of groups, of ``dim / n_groups`` contiguous channels each. Default: 2, or
        1 if ``n_codebooks`` is 1.
    quantizer : str
        A registered name, or the full path of a class.
    quantizer_conf : Mapping, optional
        Options of the quantizer of each group.
    quantizer_dropout : bool
        In training, keep for each utterance only a random number of codebooks. Dropped
        codes are returned as -1; every codebook still learns from every frame.
    frozen : bool
        No updates in training; gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is unknown or out of range.

    Example
    -------
    >>> conf = {"n_codebooks": 4, "quantizer": "fsq"}
    >>> q = Grouped(32, 256, n_groups=2, quantizer="residual", quantizer_conf=conf)
    >>> q(torch.randn(2, 50, 32)).codes.shape
    torch.Size([2, 50, 8])
    """

    contract_options = {"n_codebooks": 4}

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        n_codebooks: int | None = None,
        n_groups: int | None = None,
        quantizer: str = "rvq",
        quantizer_conf: Mapping[str, Any] | None = None,
        quantizer_dropout: bool = False,
        frozen: bool = False,
    ):
        if n_groups is None:
            n_groups = 1 if n_codebooks == 1 else 2
        groups = positive_int("n_groups", n_groups)
        words = {
            "dim": _quotient("dim", dim, groups),
            "codebook_size": positive_int("codebook_size", codebook_size),
            "n_codebooks": None,
        }
        if n_codebooks is not None and "n_codebooks" not in (quantizer_conf or {}):
            total = max(positive_int("n_codebooks", n_codebooks), groups)
            words["n_codebooks"] = _quotient("n_codebooks", total, groups)
        parts = [build_part(quantizer, words, quantizer_conf) for _ in range(groups)]
        levels = parts[0].n_codebooks
        columns = [range(g, levels * groups, groups) for g in range(groups)]
        super().__init__(dim, parts, columns, quantizer_dropout)
        self.n_groups = groups
        self.freeze_if(frozen)

    def _quantize(self, frames: Frames) -> Quantized:
        frames = self._with_kept(frames)
        values, results = [], {}
        for number, part in enumerate(self._parts()):
            inner = self._frames_of_group(frames, number)
            if inner is None:
                values.append(_nothing(frames.x, part.dim))
                continue
            results[number] = run_part(part, inner)
            values.append(results[number].value)
        return self._joined(torch.cat(values, 1), results)

    def _search(self, frames: Frames) -> Tensor:
        codes = {}
        for number, part in enumerate(self._parts()):
            inner = self._frames_of_group(frames, number)
            if inner is not None:
                codes[number] = part._search(inner)
        return self._in_order(codes, 1)

    def _decode(self, codes: Tensor) -> Tensor:
        values = []
        for number, part in enumerate(self._parts()):
            mine = self._codes_of(codes, number)
            values.append(
                _nothing(codes, part.dim) if mine is None else part._decode(mine)
            )
        return torch.cat(values, 1)

    def _frames_of_group(self, frames: Frames, number: int) -> Frames | None:
        width = self.dim // self.n_groups
        mine = frames.x[:, number * width : (number + 1) * width].contiguous()
        return self._frames_of(frames, number, mine)


def _nothing(rows: Tensor, width: int) -> Tensor:
    # float32; joined with float64 values it becomes float64.
    return torch.zeros(rows.shape[0], width, device=rows.device)


def _quotient(name: str, number: int, groups: int) -> int:
    """Return how much of ``number`` a group gets."""
    whole = positive_int(name, number) // groups
    if whole * groups != number:
        near = sorted({max(1, whole) * groups, (whole + 1) * groups})
        raise ConfigError(
            f"{name} must be a multiple of n_groups ({groups}), as "
            f"{' or '.join(map(str, near))}; got {number}"
        )
    return whole
