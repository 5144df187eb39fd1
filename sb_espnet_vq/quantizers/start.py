"""The start of a codebook from k-means, and whether it has been done."""

from itertools import count
from typing import NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from sb_espnet_vq.ops.devices import TensorVersion, eager_on_cpu
from sb_espnet_vq.ops.ema import smoothed_means
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.ops.kmeans import kmeans


class CodebookState(NamedTuple):
    """The buffers of an `EMACodebook`, which the functions below write in place."""

    inited: Tensor
    cluster_size: Tensor
    embed: Tensor
    embed_avg: Tensor


class StartFlag:
    """Whether a codebook is started, as read from its buffer ``inited``.

    The buffer decides, so that copies, averages and states written in place are
    seen. On a GPU, where reading it makes the host wait, it is read again only when
    it was replaced or written to; a traced graph is specialized on the last value.

    Example
    -------
    >>> flag, inited = StartFlag(), torch.zeros(1)
    >>> flag.read(inited), flag.read(inited.fill_(1))
    (False, True)
    """

    def __init__(self):
        number = next(_numbers)
        # A tensor, since a graph would be specialized on a number.
        self.number = torch.tensor(number, device="cpu")
        self._value = False
        self._version: TensorVersion | None = None
        _flags[number] = self

    def __reduce__(self):
        # A copy belongs to another codebook, whose buffer it has to read.
        return StartFlag, ()

    def read(self, inited: Tensor) -> bool:
        """Return whether the codebook with the buffer ``inited`` is started."""
        if torch.compiler.is_compiling():
            return self._value
        known = self._version is not None and self._version.is_of(inited)
        if eager_on_cpu(inited) or not known:
            self.set(inited, bool(inited > 0))
        return self._value

    def set(self, inited: Tensor, value: bool) -> None:
        """Take over a value that is known without reading ``inited``."""
        self._value, self._version = value, TensorVersion(inited)


_numbers = count()
_flags: WeakValueDictionary[int, StartFlag] = WeakValueDictionary()


@torch.no_grad()
def start_from_frames_(state: CodebookState, frames: Frames, iterations: int) -> None:
    """Set the codebook vectors to k-means centres, where any frame is valid.

    Arguments
    ---------
    state : CodebookState
        Written in place, unless it is started.
    frames : Frames
        With x (N, dim). Their number is read by the host.
    iterations : int
        Rounds of k-means.
    """
    if bool(state.inited > 0) or int(frames.n_valid) == 0:
        return
    centres, counts = kmeans(frames, len(state.embed), iterations)
    state.cluster_size.copy_(counts)
    state.embed_avg.copy_(centres * counts[:, None])
    # A centre that lost its frames, as some do where frames are fewer than codes, is
    # a frame too and stays where it is.
    means = smoothed_means(state.embed_avg, state.cluster_size, centres)
    state.embed.copy_(means)
    state.inited.fill_(1)


@torch.library.custom_op(
    "sb_espnet_vq::start_codebook",
    mutates_args=("inited", "cluster_size", "embed", "embed_avg"),
)
def start_codebook(
    inited: Tensor,
    cluster_size: Tensor,
    embed: Tensor,
    embed_avg: Tensor,
    x: Tensor,
    valid: Tensor,
    n_valid: Tensor,
    offset: Tensor,
    shared: bool,
    iterations: int,
    flag: Tensor,
) -> None:
    """Start a codebook from within a compiled graph, as one operator.

    Traced, the rounds of k-means would be unrolled into the graph. It sets the
    `StartFlag` with the number ``flag``, so that the next graph does without it.
    """
    state = CodebookState(inited, cluster_size, embed, embed_avg)
    frames = Frames(x, valid, valid.to(x.dtype), n_valid, offset, shared)
    start_from_frames_(state, frames, iterations)
    if (known := _flags.get(int(flag))) is not None:
        known.set(inited, bool(inited > 0))
