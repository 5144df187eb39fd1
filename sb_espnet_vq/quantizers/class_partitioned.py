"""`class_partitioned`: a codebook with a separate part for each class."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.ops.nearest import nearest_allowed_code, nearest_code
from sb_espnet_vq.quantizers.base import Quantized, Quantizer
from sb_espnet_vq.quantizers.held import without_held
from sb_espnet_vq.quantizers.options import (
    in_range,
    integer_from,
    positive_int,
    true_or_false,
)
from sb_espnet_vq.quantizers.precision import table_dtype


class ClassPartitionedVQ(Quantizer):
    """Vector quantizer whose codebook is partitioned among classes.

    Paissan et al. 2023, "Posthoc Interpretation via Quantization",
    https://arxiv.org/abs/2303.12659, section 3.2. The codebook vectors, except the last
    ``shared_keys``, are split into one contiguous range for each class. A frame with a
    label is quantized with the vectors of its class and, only in eval mode, the shared
    ones. Without labels all vectors are available. The codebook is a parameter, with
    losses as in van den Oord et al. 2017, equation 3.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Number of codebook vectors.
    num_classes : int
        Number of classes.
    shared_keys : int
        Number of codebook vectors, at the end of the codebook, that belong to no
        class.
    commitment_weight : float
        Weight of the commitment loss: mean squared distance between frames and
        their codebook vectors, with gradient only to the frames.
    codebook_weight : float
        Weight of the codebook loss: the same distance, with gradient only to the
        codebook vectors.
    frozen : bool
        No updates in training; gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is out of range or a class would have no codebook vector.

    Example
    -------
    >>> import torch
    >>> q = ClassPartitionedVQ(dim=8, codebook_size=20, num_classes=2)
    >>> codes = q.encode(torch.randn(2, 100, 8), labels=torch.tensor([0, 1]))
    >>> bool((codes[0] < 10).all()), bool((codes[1] >= 10).all())
    (True, True)
    """

    first_key: Tensor
    last_key: Tensor
    held: Tensor | None

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        num_classes: int = 1,
        shared_keys: int = 0,
        commitment_weight: float = 0.25,
        codebook_weight: float = 1.0,
        frozen: bool = False,
    ):
        super().__init__(dim, codebook_size)
        self.num_classes = positive_int("num_classes", num_classes)
        self.shared_keys = integer_from(0, "shared_keys", shared_keys)
        weights = {"commitment": commitment_weight, "codebook": codebook_weight}
        for name, weight in weights.items():
            in_range(f"{name}_weight", weight, 0, float("inf"))
        self.loss_weights = weights
        self.embedding = nn.Embedding(codebook_size, dim)
        bound = 1 / codebook_size
        nn.init.uniform_(self.embedding.weight, -bound, bound)
        first, last = class_ranges(codebook_size, num_classes, shared_keys)
        device = self.embedding.weight.device
        # Not saved, so they would stay empty in a module built on the meta device.
        if device.type != "meta":
            first, last = first.to(device), last.to(device)
        self.register_buffer("first_key", first, persistent=False)
        self.register_buffer("last_key", last, persistent=False)
        self._widest = int((last - first).max())
        self.register_buffer("held", None, persistent=False)
        self.register_load_state_dict_post_hook(_after_loading)
        if true_or_false("frozen", frozen):
            self.requires_grad_(False)

    def nearest_keys(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the nearest code available to each frame, without checks.

        Arguments
        ---------
        x : torch.Tensor
            (B, M, dim) finite float32 or float64, in any memory layout; it is not
            copied. Autocast must be disabled.
        labels : torch.Tensor, optional
            (B,) int64 in [0, num_classes). Without them all codes are available.

        Returns
        -------
        torch.Tensor
            (B, M) int64.
        """
        table = self.embedding.weight.detach().to(x.dtype)
        if labels is None:
            return nearest_code(x.reshape(-1, x.shape[2]), table).view(x.shape[:2])
        runs = KeyRuns(self.first_key, self.last_key, self._widest)
        shared = 0 if self.training else self.shared_keys
        return nearest_class_key(x, table, labels, runs, shared)

    def _hold(self, entries: Tensor | None) -> None:
        self.held = None if entries is None else entries[0]

    def _quantize(self, frames: Frames) -> Quantized:
        codes = self._search(frames)
        table = without_held(self.embedding.weight, self.held).to(frames.x.dtype)
        chosen = F.embedding(codes[:, 0], table)
        terms = {
            "commitment": frames.mean_square(frames.x, chosen.detach()),
            "codebook": frames.mean_square(frames.x.detach(), chosen),
        }
        value = straight_through(frames.x, self._decode(codes))
        return Quantized(value, codes, terms)

    def _search(self, frames: Frames) -> Tensor:
        x, labels = frames.x.detach(), frames.labels
        if labels is None or x.shape[0] == 0:
            return self.nearest_keys(x[None])[0][:, None]
        x = x.view(labels.shape[0], -1, self.dim)
        return self.nearest_keys(x, labels).view(-1, 1)

    def _decode(self, codes: Tensor) -> Tensor:
        table = self.embedding.weight.detach()
        entries = F.embedding(codes[:, 0].clamp(min=0), table.to(table_dtype(table)))
        return torch.where(codes >= 0, entries, 0)


class KeyRuns(NamedTuple):
    """The range of codes of each class.

    Arguments
    ---------
    first, last : torch.Tensor
        (num_classes,) int64, ``last`` exclusive.
    widest : int
        The largest last - first, stored so that no tensor needs to be read.
    """

    first: Tensor
    last: Tensor
    widest: int


def nearest_class_key(
    x: Tensor, table: Tensor, labels: Tensor, runs: KeyRuns, shared: int
) -> Tensor:
    """Find the nearest code that is available to the class of each frame.

    Arguments
    ---------
    x : torch.Tensor
        (B, M, D) finite float, in any memory layout.
    table : torch.Tensor
        (V, D) codebook vectors in the dtype of ``x``.
    labels : torch.Tensor
        (B,) int64 classes.
    runs : KeyRuns
        The codes of each class.
    shared : int
        Number of codes at the end that are available to every class.

    Returns
    -------
    torch.Tensor
        (B, M) int64.

    Example
    -------
    >>> table = torch.tensor([[0.0], [1.0], [2.0]])
    >>> runs = KeyRuns(torch.tensor([0, 1]), torch.tensor([1, 2]), 1)
    >>> x = torch.full((2, 1, 1), 9.0)
    >>> nearest_class_key(x, table, torch.tensor([0, 1]), runs, shared=0)
    tensor([[0],
            [1]])
    >>> nearest_class_key(x, table, torch.tensor([0, 1]), runs, shared=1)
    tensor([[2],
            [2]])
    """
    if len(runs.first) == 1:
        # With a single class the available codes are contiguous: no gather needed.
        codes = nearest_code(x.reshape(-1, x.shape[2]), table[: runs.widest + shared])
        return codes.view(x.shape[:2])
    first, last = runs.first[labels], runs.last[labels]
    return nearest_allowed_code(x, table, first, last, runs.widest, shared)


def _after_loading(module: Any, keys: object) -> None:
    # A module built on the meta device gets weights of any device by assignment.
    device = module.embedding.weight.device
    if device.type != "meta":
        module.first_key = module.first_key.to(device)
        module.last_key = module.last_key.to(device)


def class_of_keys(codebook_size: int, num_classes: int, shared_keys: int) -> Tensor:
    """Return the class of each code that belongs to a class.

    Arguments
    ---------
    codebook_size, num_classes, shared_keys : int
        As in `ClassPartitionedVQ`.

    Returns
    -------
    torch.Tensor
        (codebook_size - shared_keys,) float32 integers, nondecreasing: a uniform grid
        from -0.5 to num_classes - 0.51, rounded half to even. On the CPU, since a grid
        computed on another device may round differently.

    Raises
    ------
    ConfigError
        If ``shared_keys`` exceeds ``codebook_size``.

    Example
    -------
    >>> class_of_keys(7, 2, 1)
    tensor([-0., -0., 0., 1., 1., 1.])
    """
    in_range("shared_keys", shared_keys, 0, codebook_size)
    own = codebook_size - shared_keys
    grid = torch.linspace(
        -0.5, num_classes - 0.51, own, dtype=torch.float32, device="cpu"
    )
    return grid.round()


def class_ranges(
    codebook_size: int, num_classes: int, shared_keys: int
) -> tuple[Tensor, Tensor]:
    """Return the range of codes of each class.

    Arguments
    ---------
    codebook_size, num_classes, shared_keys : int
        As in `ClassPartitionedVQ`.

    Returns
    -------
    first, last : torch.Tensor
        (num_classes,) int64 on the CPU; ``last`` is exclusive.

    Raises
    ------
    ConfigError
        If a class has no code.

    Example
    -------
    >>> class_ranges(7, 2, 1)
    (tensor([0, 3]), tensor([3, 6]))
    """
    keys = class_of_keys(codebook_size, num_classes, shared_keys).long()
    counts = torch.bincount(keys, minlength=num_classes)
    if int(counts.min()) == 0:
        raise ConfigError(
            f"codebook_size {codebook_size} with shared_keys {shared_keys} is too "
            f"small for {num_classes} classes: class {int(counts.argmin())} would have "
            "none; increase codebook_size or decrease shared_keys"
        )
    last = counts.cumsum(0)
    return last - counts, last
