"""The interface of a codebook: the part of a quantizer that holds vectors."""

from abc import ABC, abstractmethod
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.ops.nearest import most_similar_code, nearest_code
from sb_espnet_vq.ops.usage import code_counts
from sb_espnet_vq.quantizers.options import one_of, positive_int, true_or_false
from sb_espnet_vq.quantizers.precision import table_dtype
from sb_espnet_vq.quantizers.start import StartFlag

_SEARCHES = {"euclidean": nearest_code, "cosine": most_similar_code}


class Codebook(nn.Module, ABC):
    """Base of all codebooks: search, lookup, k-means start and learning.

    Arguments
    ---------
    dim : int
        Width of the codebook vectors.
    codebook_size : int
        Number of codebook vectors.
    metric : str
        ``euclidean``: the code of a frame is the vector at the smallest distance.
        ``cosine``: the vector at the smallest angle (Yu et al. 2022,
        https://arxiv.org/abs/2110.04627); only the search normalizes.
    kmeans_init : bool
        Whether `start_` initializes the vectors from the first training batch.
    kmeans_iters : int
        Iterations of k-means.

    Attributes
    ----------
    loss_weights : dict
        Weight of each loss term of `losses`.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Buffers
    -------
    inited : (1,) float, 1 after initialization; None if k-means is never run.
    held : (codebook_size,) bool, vectors that do not change; None if all learn. Not
        saved.
    """

    inited: Tensor | None
    held: Tensor | None
    loss_weights: dict[str, float]

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        metric: str,
        kmeans_init: bool,
        kmeans_iters: int,
    ):
        super().__init__()
        self.dim, self.codebook_size = dim, codebook_size
        self.metric = one_of("metric", metric, _SEARCHES)
        self.kmeans_init = true_or_false("kmeans_init", kmeans_init)
        self.kmeans_iters = positive_int("kmeans_iters", kmeans_iters)
        self.loss_weights = {}
        self.register_buffer("inited", self._unstarted())
        self.register_buffer("held", None, persistent=False)
        self._flag = StartFlag()
        if self.inited is not None:
            self._flag.set(self.inited, not kmeans_init)

    def _unstarted(self) -> Tensor | None:
        return torch.zeros(1) if self.kmeans_init else None

    @abstractmethod
    def vectors(self) -> Tensor:
        """Return the vectors (codebook_size, dim), with the gradient they learn by."""

    @abstractmethod
    def _start_(self, frames: Frames) -> None:
        """Initialize the vectors by k-means."""

    def losses(self, z: Tensor, entries: Tensor) -> dict[str, Tensor]:
        """Return the loss terms that train the vectors, none by default.

        Arguments
        ---------
        z, entries : torch.Tensor
            (N, dim) frames and their codebook vectors.

        Returns
        -------
        dict
            Name of a term to (N,) values.
        """
        return {}

    def look_up(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes (N,) of frames (N, dim) and their vectors (N, dim)."""
        vectors = self.vectors()
        codes = _SEARCHES[self.metric](x, vectors.to(x.dtype))
        return codes, F.embedding(codes, vectors)

    def search(self, x: Tensor) -> Tensor:
        """Return the code (N,) of each frame (N, dim)."""
        return _SEARCHES[self.metric](x, self.vectors().to(x.dtype))

    def entries(self, codes: Tensor) -> Tensor:
        """Return the vectors (N, dim) of codes (N,) in [0, codebook_size)."""
        return F.embedding(codes, self.vectors())

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors (N, dim) of codes (N,), zero for -1, without gradient."""
        entries = F.embedding(codes.clamp(min=0), self.vectors().detach())
        return torch.where(codes[:, None] >= 0, entries, 0)

    def hold(self, entries: Tensor | None) -> None:
        """Exclude vectors from updates where ``entries`` (codebook_size,) is True.

        Raises
        ------
        ConfigError
            If the vectors do not learn one by one.
        """
        raise ConfigError(
            f"{type(self).__name__} has no vectors that learn one by one, so that none "
            "can be held; requires_grad_(False) freezes the whole quantizer"
        )

    def set_vectors(self, vectors: Tensor) -> None:
        """Replace all vectors (codebook_size, dim).

        Raises
        ------
        ConfigError
            If they are not stored one by one.
        """
        raise ConfigError(
            f"{type(self).__name__} does not store its vectors one by one, so they "
            "cannot be replaced; ema, gradient and frozen codebooks do"
        )

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the vectors that `vectors` returns."""
        return table_dtype(next(chain(self.parameters(), self.buffers())))

    @property
    def started(self) -> bool:
        """Whether the codebook is initialized, randomly or by k-means."""
        return self.inited is None or self._flag.read(self.inited)

    @torch.no_grad()
    def start_(self, frames: Frames) -> None:
        """Initialize the codebook from the first batch that has valid frames."""
        if not self.started:
            self._start_(frames)

    @torch.no_grad()
    def learn_(self, frames: Frames, codes: Tensor) -> Tensor:
        """Update buffers from the frames assigned to each code, after the lookup.

        Arguments
        ---------
        frames : Frames
            With x (N, dim).
        codes : torch.Tensor
            (N,) their codes.

        Returns
        -------
        torch.Tensor
            (codebook_size,) number of frames of each code, over all ranks.
        """
        counts = code_counts(codes[:, None], frames.weight, self.codebook_size)
        return frames.total(counts)[0]

    def _apply(self, *args: Any, **kwargs: Any):
        # A meta tensor cannot be read.
        readable = self.inited is not None and not self.inited.is_meta
        known = self.started if readable else None
        super()._apply(*args, **kwargs)
        if known is not None and self.inited is not None:
            # Moved but unchanged: no synchronization with the new device needed.
            self._flag.set(self.inited, known)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        # A meta tensor cannot be read.
        if self.inited is not None and not self.inited.is_meta:
            self._flag.set(self.inited, bool(self.inited > 0))
