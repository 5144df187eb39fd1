"""Quantizers whose codes form a chain, and their search with a beam."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.beam import best_chain
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.quantizers.options import positive_int


class ChainQuantizer(Quantizer):
    """Base of quantizers that encode the residual of the previous codebooks.

    The value of a frame is the sum over its codebooks. Subclasses implement
    ``_search_greedy`` instead of ``_search``, and `Quantizer`'s other methods.
    """

    takes_beam = True

    @abstractmethod
    def _search_greedy(self, frames: Frames) -> Tensor:
        """Return the codes (N, K), each chosen for the residual of those before it."""

    def _tables(self, levels: int) -> list[Tensor]:
        """Return what the codes of each of the first levels add, (V_k, dim).

        Override it where this is cheaper than by ``codebook_vectors``.
        """
        sizes = self.codebook_sizes[:levels]
        vectors = self.codebook_vectors()
        return [vectors[level, :size] for level, size in enumerate(sizes)]

    @torch.no_grad()
    def encode(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        n_codebooks: int | None = None,
        beam: int = 1,
    ) -> Tensor:
        """Return the codes of a batch without changing state.

        Arguments
        ---------
        x, mask, labels, n_codebooks
            As in ``forward``.
        beam : int
            Number of chains of codes that the search keeps after each codebook, by
            squared error. 1 is the greedy search of ``forward``. More take about
            ``beam`` times as long and give values that are closer, in no frame
            farther, to the input. For fewer codebooks than were searched for, encode
            again: the first codes are chosen with regard to the later ones.

        Returns
        -------
        torch.Tensor
            (B, T, n_codebooks) int64, -1 where there is no valid frame.

        Raises
        ------
        ShapeError, ValueError, ConfigError
            As in ``forward``; ConfigError also if ``beam`` is not a positive integer,
            or above 1 although codes depend on labels.

        Example
        -------
        >>> from sb_espnet_vq import build
        >>> q = build("rvq", dim=8, codebook_size=16, n_codebooks=4)
        >>> x = torch.randn(2, 50, 8)
        >>> greedy, best = q.decode(q.encode(x)), q.decode(q.encode(x, beam=8))
        >>> bool((best - x).square().sum() < (greedy - x).square().sum())
        True
        """
        options = beam_options(self, beam)
        return self._encode(x, mask, labels, n_codebooks, **options)

    def _search(self, frames: Frames, beam: int = 1) -> Tensor:
        greedy = self._search_greedy(frames)
        if beam == 1:
            return greedy
        tables = self._tables(greedy.shape[1])
        dtype = torch.promote_types(frames.x.dtype, tables[0].dtype)
        tables = [table.to(dtype) for table in tables]
        return best_chain(frames.x.to(dtype), tables, beam, greedy)


def beam_options(quantizer: Quantizer, beam: int) -> dict[str, Any]:
    """Return the options of ``quantizer.encode`` for a beam.

    Arguments
    ---------
    quantizer : Quantizer
        Any quantizer.
    beam : int
        1 for its usual search.

    Returns
    -------
    dict
        Empty for the usual search.

    Raises
    ------
    ConfigError
        If ``beam`` is not a positive integer, or above 1 for a quantizer whose codes
        form no chain or depend on labels.

    Example
    -------
    >>> from sb_espnet_vq import build
    >>> beam_options(build("rvq", dim=8, codebook_size=4), 8)
    {'beam': 8}
    """
    if positive_int("beam", beam) == 1:
        return {}
    if not quantizer.takes_beam:
        raise ConfigError(
            f"{type(quantizer).__name__} has no chain of codes to search with "
            f"beam={beam}; use beam=1, or a residual quantizer whose codes do not "
            "depend on labels, such as rvq"
        )
    return {"beam": beam}
