"""Codebook stored in buffers and learned by exponential moving averages (EMA)."""

import torch
from torch import Tensor, nn

from sb_espnet_vq.ops.devices import eager_on_cpu
from sb_espnet_vq.ops.ema import code_sums, ema_update_, smoothed_means
from sb_espnet_vq.ops.frames import Frames, draw_numbers, take_frames
from sb_espnet_vq.quantizers.codebook import Codebook
from sb_espnet_vq.quantizers.options import in_range
from sb_espnet_vq.quantizers.precision import table_dtype
from sb_espnet_vq.quantizers.start import CodebookState, start_in_graph_or_eager_

# Cap of the dead-code threshold, as a fraction of the mean usage of all codes. Without
# it, batches with fewer frames than threshold * codebook_size would replace codes that
# are in regular use.
_DEAD_SHARE = 0.1


class EMACodebook(Codebook):
    """EMA codebook with k-means initialization and replacement of dead codes.

    Arguments
    ---------
    dim : int
        Width of the codebook vectors.
    codebook_size : int
        Number of codebook vectors.
    decay : float
        Decay of the moving averages at each step, in [0, 1] (SoundStream, Zeghidour
        et al. 2021, section III-C).
    kmeans_init : bool
        Initialize with the k-means centres of the first training batch. Until then,
        codebook vectors are random. If False, they start random and learn from there.
    kmeans_iters : int
        Iterations of k-means.
    threshold_ema_dead_code : float
        A code whose average number of frames per batch is below this, and below
        a tenth of the mean over codes, is replaced by a frame drawn from the batch.
        0 disables it.
    metric : str
        Metric of the search, as in `Codebook`.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Buffers
    -------
    inited : (1,) float, 1 after initialization.
    cluster_size : (codebook_size,) average number of frames per batch of each code.
    embed : (codebook_size, dim) the codebook vectors.
    embed_avg : (codebook_size, dim) average, over batches, of the sum of the frames of
        each code.
    held : (codebook_size,) bool, codebook vectors excluded from updates; None if all
        are updated. Not saved.

    Example
    -------
    >>> from sb_espnet_vq.ops.frames import flat_frames
    >>> book = EMACodebook(dim=4, codebook_size=8)
    >>> frames = flat_frames(torch.randn(100, 4))
    >>> book.start_(frames)
    >>> codes = book.search(frames.x)
    >>> counts = book.learn_(frames, codes)
    >>> counts.sum()
    tensor(100.)
    """

    # The buffers have the names of ESPnet's codebooks, so that its checkpoints load.
    inited: Tensor
    cluster_size: Tensor
    embed: Tensor
    embed_avg: Tensor
    held: Tensor | None

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        decay: float = 0.99,
        kmeans_init: bool = True,
        kmeans_iters: int = 50,
        threshold_ema_dead_code: float = 2,
        metric: str = "euclidean",
    ):
        super().__init__(dim, codebook_size, metric, kmeans_init, kmeans_iters)
        self.decay = in_range("decay", decay, 0, 1)
        self.threshold = in_range(
            "threshold_ema_dead_code", threshold_ema_dead_code, 0, float("inf")
        )
        embed = nn.init.kaiming_uniform_(torch.empty(codebook_size, dim))
        self.register_buffer("cluster_size", torch.zeros(codebook_size))
        self.register_buffer("embed", embed)
        # Random vectors have no frames yet. If the average sum started at the vector
        # itself, as in ESPnet, the first update would move the vector far away.
        self.register_buffer("embed_avg", embed.clone() if kmeans_init else embed * 0)

    def _unstarted(self) -> Tensor:
        # ESPnet's codebooks have it in any case.
        return torch.tensor([float(not self.kmeans_init)])

    def vectors(self) -> Tensor:
        """Return the vectors (codebook_size, dim), without gradient."""
        return self.embed.to(table_dtype(self.embed))

    def hold(self, entries: Tensor | None) -> None:
        """Exclude vectors from updates where ``entries`` (codebook_size,) is True."""
        self.held = entries

    def set_vectors(self, vectors: Tensor) -> None:
        """Replace all vectors (codebook_size, dim), and the averages to match."""
        self.embed.copy_(vectors)
        self.embed_avg.copy_(self.embed * self.cluster_size[:, None])
        self.inited.fill_(1)

    def _start_(self, frames: Frames) -> None:
        before = self._held_rows()
        state = self._state()
        start_in_graph_or_eager_(state, frames, self.kmeans_iters, self._flag)
        self._put_back(before)

    @torch.no_grad()
    def learn_(self, frames: Frames, codes: Tensor) -> Tensor:
        """Update the codebook vectors from the frames assigned to them.

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
        before = self._held_rows()
        x = frames.x.detach()
        size = len(self.embed)
        counts, sums = code_sums(x, codes, frames.valid, size)
        counts, sums = frames.total(counts), frames.total(sums)
        some = frames.n_valid > 0
        ema_update_(self.cluster_size, counts, self.decay, some)
        ema_update_(self.embed_avg, sums, self.decay, some)
        means = smoothed_means(self.embed_avg, self.cluster_size, self.embed)
        # With decay 1 all counts may stay 0, and the means would be undefined.
        moves = some & (self.cluster_size.sum() > 0)
        _write_(self.embed, moves, means)
        if self.threshold > 0:
            self._revive_(frames)
        self._put_back(before)
        return counts

    def _revive_(self, frames: Frames) -> None:
        mean = self.cluster_size.mean()
        threshold = (mean * _DEAD_SHARE).clamp(max=self.threshold)
        dead = (self.cluster_size < threshold) & (frames.n_valid > 0)
        # Drawn even if no code is dead, so that later draws do not depend on the number
        # of ranks.
        numbers = draw_numbers(frames, len(dead))
        # Skip the rest if no code is dead. Not on a GPU, where reading synchronizes the
        # device, nor on several ranks, which would deadlock if they disagreed.
        if not frames.shared and eager_on_cpu(dead) and not bool(dead.any()):
            return
        drawn = take_frames(frames, numbers).to(self.embed.dtype)
        # With a higher count, a new code that stays unused would be replaced later.
        revived = drawn * threshold
        _write_(self.cluster_size, dead, threshold)
        _write_(self.embed, dead[:, None], drawn)
        _write_(self.embed_avg, dead[:, None], revived)

    def _state(self) -> CodebookState:
        return CodebookState(self.inited, self.cluster_size, self.embed, self.embed_avg)

    def _held_rows(self) -> tuple[Tensor, ...] | None:
        """Copy the buffers if any vectors are held."""
        if self.held is None:
            return None
        return self.cluster_size.clone(), self.embed.clone(), self.embed_avg.clone()

    def _put_back(self, before: tuple[Tensor, ...] | None) -> None:
        """Restore the held vectors."""
        if before is None or self.held is None:
            return
        cluster_size, embed, embed_avg = before
        _write_(self.cluster_size, self.held, cluster_size)
        _write_(self.embed, self.held[:, None], embed)
        _write_(self.embed_avg, self.held[:, None], embed_avg)


def _write_(buffer: Tensor, where: Tensor, value: Tensor) -> None:
    # Detached, since torch.jit.trace does not record `no_grad`, and the graph executor
    # that SpeechBrain selects attaches an autograd graph to tensors without one.
    buffer.copy_(torch.where(where, value, buffer).detach())
