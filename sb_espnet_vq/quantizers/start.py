"""Initialization of a codebook by k-means, and the flag that records it."""

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
    """Whether a codebook is initialized, cached from its buffer ``inited``.

    The buffer is authoritative, so that copied or averaged states and in-place writes
    take effect. On a GPU, reading it synchronizes the device, so it is read only after
    it was replaced or written; a compiled graph is specialized on the last value.

    Example
    -------
    >>> flag, inited = StartFlag(), torch.zeros(1)
    >>> flag.read(inited), flag.read(inited.fill_(1))
    (False, True)
    """

    def __init__(self):
        number = next(_numbers)
        # A tensor, since a graph would be specialized on an integer.
        self.number = torch.tensor(number, device="cpu")
        self._value = False
        self._version: TensorVersion | None = None
        _flags[number] = self

    def __reduce__(self):
        # A copy belongs to another codebook and must read that codebook's buffer.
        return StartFlag, ()

    def read(self, inited: Tensor) -> bool:
        """Return whether the codebook with the buffer ``inited`` is initialized."""
        if torch.compiler.is_compiling():
            return self._value
        known = self._version is not None and self._version.is_of(inited)
        if eager_on_cpu(inited) or not known:
            self.set(inited, bool(inited > 0))
        return self._value

    def set(self, inited: Tensor, value: bool) -> None:
        """Store a value that is known without reading ``inited``."""
        self._value, self._version = value, TensorVersion(inited)


_numbers = count()
_flags: WeakValueDictionary[int, StartFlag] = WeakValueDictionary()


@torch.no_grad()
def start_from_frames_(state: CodebookState, frames: Frames, iterations: int) -> None:
    """Set the codebook vectors to k-means centres if any frame is valid.

    Arguments
    ---------
    state : CodebookState
        Written in place, unless it is already initialized.
    frames : Frames
        With x (N, dim). Reading the number of valid frames synchronizes the device.
    iterations : int
        Iterations of k-means.
    """
    if bool(state.inited > 0) or int(frames.n_valid) == 0:
        return
    centres, counts = kmeans(frames, len(state.embed), iterations)
    state.cluster_size.copy_(counts)
    state.embed_avg.copy_(centres * counts[:, None])
    # A centre without frames (for example with fewer frames than codes) is itself a
    # frame and does not change.
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
    """Initialize a codebook in a compiled graph, as one operator.

    Otherwise tracing would unroll the k-means iterations into the graph. It sets the
    `StartFlag` with the number ``flag``, so that the next graph omits the operator.
    """
    state = CodebookState(inited, cluster_size, embed, embed_avg)
    frames = Frames(x, valid, valid.to(x.dtype), n_valid, offset, shared)
    start_from_frames_(state, frames, iterations)
    if (known := _flags.get(int(flag))) is not None:
        known.set(inited, bool(inited > 0))


def start_in_graph_or_eager_(
    state: CodebookState, frames: Frames, iterations: int, flag: StartFlag
) -> None:
    """Do what `start_from_frames_` does, in a compiled graph as one operator.

    Arguments
    ---------
    state, frames, iterations
        As in `start_from_frames_`.
    flag : StartFlag
        The flag of the codebook.
    """
    if torch.compiler.is_compiling():
        batch = frames.x.detach(), frames.valid, frames.n_valid, frames.offset
        start_codebook(*state, *batch, frames.shared, iterations, flag.number)
    else:
        start_from_frames_(state, frames, iterations)


def started_state(inited: Tensor, vectors: Tensor) -> CodebookState:
    """Return a state to start for a codebook that has no moving averages.

    Arguments
    ---------
    inited : torch.Tensor
        The codebook's buffer, written in place.
    vectors : torch.Tensor
        (V, D) its vectors, which are copied.

    Returns
    -------
    CodebookState
        After the start, ``embed`` are the centres.
    """
    counts = torch.zeros_like(vectors[:, 0])
    return CodebookState(inited, counts, vectors.clone(), torch.zeros_like(vectors))
