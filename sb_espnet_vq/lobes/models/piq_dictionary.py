"""The dictionary of PIQ: vectors in, the keys that their class allows out.

Paissan et al. 2023, "Posthoc Interpretation via Quantization",
https://arxiv.org/abs/2303.12659, section 3.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.ops.devices import eager_on_cpu
from sb_espnet_vq.ops.ema import code_sums
from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.frames import finite_rows
from sb_espnet_vq.ops.nearest import nearest_code, tile_rows
from sb_espnet_vq.quantizers.class_partitioned import (
    KeyRuns,
    class_of_keys,
    class_ranges,
    nearest_class_key,
)
from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.quantizers.precision import full_precision


def get_irrelevant_regions(
    labels: Tensor, K: int, num_classes: int, N_shared: int = 5, stage: str = "TRAIN"
) -> Tensor:
    """Mark the keys that each label may not use.

    Arguments
    ---------
    labels : torch.Tensor
        (B,) classes, of any dtype.
    K : int
        Keys in the dictionary.
    num_classes : int
        Classes that share out the first K - N_shared keys.
    N_shared : int
        Keys at the end that belong to no class.
    stage : str
        "TRAIN" closes the shared keys, anything else opens them.

    Returns
    -------
    torch.Tensor
        (B, K) bool on the device of ``labels``, True where a key is closed.

    Raises
    ------
    ConfigError
        If more keys are shared than there are.

    Example
    -------
    >>> get_irrelevant_regions(torch.tensor([1.0, 0.0]), 5, 2, N_shared=1).int()
    tensor([[1, 1, 0, 0, 1],
            [0, 0, 1, 1, 1]], dtype=torch.int32)
    """
    owners = class_of_keys(K, num_classes, N_shared).to(labels.device)
    foreign = owners != labels[:, None]
    shared = foreign.new_full((len(labels), N_shared), stage == "TRAIN")
    return torch.cat([foreign, shared], 1)


class VectorQuantization(torch.autograd.Function):
    """Key numbers of vectors; use it by ``apply``. It has no gradient.

    ``apply(inputs, codebook, labels=None, num_classes=10,
    activate_class_partitioning=True, shared_keys=10, training=True)``, without
    keywords, takes:

    Arguments
    ---------
    inputs : torch.Tensor
        (B, W, H, C) float, or any number of axes between the first and the last.
    codebook : torch.Tensor
        (K, C) keys.
    labels : torch.Tensor, optional
        (B,) classes; whole numbers of any dtype. Without them all keys are open.
    num_classes : int
        Classes that share out the keys.
    activate_class_partitioning : bool
        False opens all keys, whatever the labels.
    shared_keys : int
        Keys at the end that belong to no class: closed in training, else open.
    training : bool
        Whether the shared keys are closed.

    Returns
    -------
    torch.Tensor
        (B, W, H) int64; -1 where a vector is not finite.

    Raises
    ------
    ShapeError
        If the shapes do not fit each other.
    ConfigError
        If a class would have no key.
    ValueError
        If a label is no class (eager mode on a CPU; else codes of -1).

    Example
    -------
    >>> codebook, labels = torch.randn(40, 8), torch.tensor([1, 0, 2])
    >>> VectorQuantization.apply(torch.ones(3, 14, 25, 8), codebook, labels).shape
    torch.Size([3, 14, 25])
    """

    @staticmethod
    def forward(
        ctx,
        inputs,
        codebook,
        labels=None,
        num_classes=10,
        activate_class_partitioning=True,
        shared_keys=10,
        training=True,
    ):
        runs = None
        if activate_class_partitioning and labels is not None:
            runs = key_runs(len(codebook), num_classes, shared_keys, inputs.device)
        shared = 0 if training else shared_keys
        codes = find_keys(inputs, codebook, labels, runs, shared)
        ctx.mark_non_differentiable(codes)
        return codes

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(
            "VectorQuantization returns key numbers, which have no gradient; use "
            "VectorQuantizationStraightThrough to train through the choice"
        )


class VectorQuantizationStraightThrough(torch.autograd.Function):
    """Keys of vectors, as if the choice were the identity; use it by ``apply``.

    van den Oord et al. 2017, "Neural Discrete Representation Learning", section 3.2.
    The arguments and errors are those of `VectorQuantization`. The gradient goes to
    ``inputs`` unchanged, and to the keys that were chosen if ``codebook`` needs it.

    Returns
    -------
    values : torch.Tensor
        (B, W, H, C) chosen keys in the dtype of ``codebook``; NaN where a vector is
        not finite.
    codes : torch.Tensor
        (B * W * H,) int64, -1 where a vector is not finite.

    Example
    -------
    >>> codebook, labels = torch.randn(40, 8), torch.tensor([1, 0, 2])
    >>> values, codes = VectorQuantizationStraightThrough.apply(
    ...     torch.ones(3, 14, 25, 8), codebook, labels
    ... )
    >>> values.shape, codes.shape
    (torch.Size([3, 14, 25, 8]), torch.Size([1050]))
    """

    @staticmethod
    def forward(ctx, inputs, codebook, *options):
        found = VectorQuantization.apply(inputs, codebook, *options)
        codes = found.reshape(-1)
        ctx.save_for_backward(codes)
        ctx.keys, ctx.options = codebook.shape[0], len(options)
        ctx.mark_non_differentiable(codes)
        return look_up(codebook, found), codes

    @staticmethod
    def backward(ctx, *grads):
        grad_inputs = grad_codebook = None
        if ctx.needs_input_grad[0]:
            grad_inputs = grads[0].clone()
        if ctx.needs_input_grad[1]:
            (codes,) = ctx.saved_tensors
            rows = grads[0].reshape(len(codes), -1)
            _, grad_codebook = code_sums(rows, codes, codes >= 0, ctx.keys)
        return grad_inputs, grad_codebook, *[None] * ctx.options


class VQEmbedding(nn.Module):
    """Dictionary of K keys that are shared out among classes.

    Its search reads only the keys that a label allows, in float32 under any
    autocast. Its one name in a checkpoint is ``embedding.weight``.

    Arguments
    ---------
    K : int
        Number of keys.
    D : int
        Width of a key.
    numclasses : int
        Number of classes.
    activate_class_partitioning : bool
        False opens all keys to all classes.
    shared_keys : int
        Keys at the end that belong to no class: closed in training, open in eval.

    Raises
    ------
    ConfigError
        If a class would have no key.

    Example
    -------
    >>> dictionary = VQEmbedding(K=20, D=8, numclasses=2)
    >>> z, labels = torch.randn(2, 8, 5, 4), torch.tensor([0, 1])
    >>> codes = dictionary(z, labels)
    >>> codes.shape, bool((codes[0] < 10).all()), bool((codes[1] >= 10).all())
    (torch.Size([2, 5, 4]), True, True)
    """

    first_key: Tensor
    last_key: Tensor

    def __init__(
        self,
        K: int,
        D: int,
        numclasses: int = 50,
        activate_class_partitioning: bool = True,
        shared_keys: int = 0,
    ):
        super().__init__()
        bound = 1 / positive_int("K", K)
        self.embedding = nn.Embedding(K, positive_int("D", D))
        nn.init.uniform_(self.embedding.weight, -bound, bound)
        self.numclasses = positive_int("numclasses", numclasses)
        self.activate_class_partitioning = activate_class_partitioning
        self.shared_keys = shared_keys
        if activate_class_partitioning:
            device = self.embedding.weight.device
            runs = key_runs(K, numclasses, shared_keys, device)
            self.register_buffer("first_key", runs.first, persistent=False)
            self.register_buffer("last_key", runs.last, persistent=False)
            self._widest = runs.widest

    # A script calls both methods in Python, so it cannot be saved (nor can one of
    # SpeechBrain's class). A trace can be saved.
    @torch.jit.ignore
    def forward(self, z_e_x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the number of the nearest allowed key; it has no gradient.

        Arguments
        ---------
        z_e_x : torch.Tensor
            (B, D, H, W) float.
        labels : torch.Tensor, optional
            (B,) classes; whole numbers of any dtype. Without them all keys are open.

        Returns
        -------
        torch.Tensor
            (B, H, W) int64; -1 where a vector is not finite.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        ValueError
            If a label is no class (eager mode on a CPU; else codes of -1).
        """
        return _keys_of_map(self, z_e_x, labels)

    @torch.jit.ignore
    def straight_through(
        self, z_e_x: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the nearest allowed keys twice, with a gradient each.

        Arguments
        ---------
        z_e_x, labels
            As in ``forward``.

        Returns
        -------
        z_q_x : torch.Tensor
            (B, D, H, W); its gradient goes to ``z_e_x``. NaN where a vector is not
            finite, or on a GPU its label no class.
        z_q_x_bar : torch.Tensor
            The same values; its gradient goes to the dictionary.

        Raises
        ------
        ShapeError, ValueError
            As in ``forward``.

        Example
        -------
        >>> z = torch.randn(2, 8, 5, 4, requires_grad=True)
        >>> z_q, z_q_bar = VQEmbedding(K=50, D=8).straight_through(z)
        >>> bool((z_q == z_q_bar).all()), z_q.shape
        (True, torch.Size([2, 8, 5, 4]))
        """
        codes = _keys_of_map(self, z_e_x, labels)
        bar = look_up_channels(self.embedding.weight, codes)
        return straight_through(z_e_x, bar.detach()), bar

    def extra_repr(self) -> str:
        """Name the options in ``repr``."""
        return (
            f"numclasses={self.numclasses}, shared_keys={self.shared_keys}, "
            f"activate_class_partitioning={self.activate_class_partitioning}"
        )


def _keys_of_map(
    dictionary: VQEmbedding, z_e_x: Tensor, labels: Tensor | None
) -> Tensor:
    # A function: within a script, an ignored method cannot call another one.
    if not isinstance(z_e_x, Tensor) or z_e_x.dim() < 2:
        came = getattr(z_e_x, "shape", type(z_e_x).__name__)
        raise ShapeError(f"VQEmbedding takes (B, D, H, W), got {came}")
    runs = None
    if dictionary.activate_class_partitioning and labels is not None:
        runs = KeyRuns(dictionary.first_key, dictionary.last_key, dictionary._widest)
    shared = 0 if dictionary.training else dictionary.shared_keys
    x = z_e_x.movedim(1, -1)
    return find_keys(x, dictionary.embedding.weight, labels, runs, shared)


def key_runs(keys: int, num_classes: int, shared: int, device: torch.device) -> KeyRuns:
    """Return where each class has its keys, on ``device``.

    Arguments
    ---------
    keys, num_classes, shared : int
        All keys, classes, and keys at the end that belong to no class.
    device : torch.device
        Where the searched vectors are.

    Returns
    -------
    KeyRuns

    Raises
    ------
    ConfigError
        If a class would have no key.

    Example
    -------
    >>> key_runs(7, 2, 1, torch.device("cpu")).widest
    3
    """
    first, last = class_ranges(keys, num_classes, shared)
    return KeyRuns(first.to(device), last.to(device), int((last - first).max()))


@torch.no_grad()
def find_keys(
    x: Tensor,
    codebook: Tensor,
    labels: Tensor | None,
    runs: KeyRuns | None,
    shared: int,
) -> Tensor:
    """Return the number of the nearest key that each vector's class may use.

    Arguments
    ---------
    x : torch.Tensor
        (B, ..., D) float.
    codebook : torch.Tensor
        (K, D).
    labels : torch.Tensor, optional
        (B,) whole numbers.
    runs : KeyRuns, optional
        The keys of each class; None opens all keys.
    shared : int
        How many keys at the end are open to every class.

    Returns
    -------
    torch.Tensor
        (B, ...) int64; -1 where a vector is not finite or its label no class.

    Raises
    ------
    ShapeError, ValueError
        If a shape is wrong; if a label is no class (eager mode on a CPU).

    Example
    -------
    >>> find_keys(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0]]), None, None, 0)
    tensor([1])
    """
    _check_vectors(x, codebook)
    items = x.flatten(1, -2) if x.dim() > 2 else x[:, None]
    valid = finite_rows(items)
    with full_precision(x):
        if items.dtype != torch.float64:
            items = items.float()
        if not (eager_on_cpu(valid) and bool(valid.all())):
            items = torch.where(valid[..., None], items, 0)
        table = codebook.to(items.dtype)
        if labels is None or runs is None:
            codes = nearest_code(items.reshape(-1, items.shape[2]), table)
            codes = codes.view(valid.shape)
        else:
            labels, known = _class_labels(labels, x, len(runs.first))
            codes = nearest_class_key(items, table, labels, runs, shared)
            valid = valid & known[:, None]
    return torch.where(valid, codes, -1).view(x.shape[:-1])


class _LookUpChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx, codebook, codes):
        batch, keys = codes.shape[0], codebook.shape[0]
        flat = codes.flatten(1)
        ctx.save_for_backward(flat)
        ctx.keys = keys
        # Channel by channel, since that is how the vectors lie: to look up whole keys
        # and turn the result over would move each number twice more.
        table = codebook.t().contiguous().expand(batch, -1, -1)
        index = flat.clamp(min=0)[:, None].expand(-1, codebook.shape[1], -1)
        found = table.gather(2, index)
        if not (eager_on_cpu(flat) and bool((flat >= 0).all())):
            found = torch.where((flat >= 0)[:, None], found, torch.nan)
        return found.view(batch, codebook.shape[1], *codes.shape[1:])

    @staticmethod
    def backward(ctx, *grads):
        (flat,) = ctx.saved_tensors
        grad = grads[0].flatten(2)
        sums = grad.new_zeros(ctx.keys, grad.shape[1])
        # Some items at a time, so that their copies stay in the cache.
        items = tile_rows(grad, grad.shape[1] * grad.shape[2])
        for start in range(0, grad.shape[0], items):
            codes = flat[start : start + items].reshape(-1)
            rows = grad[start : start + items].transpose(1, 2).flatten(0, 1)
            sums += code_sums(rows, codes.clamp(min=0), codes >= 0, ctx.keys)[1]
        return sums, None


def look_up_channels(codebook: Tensor, codes: Tensor) -> Tensor:
    """Return the keys of ``codes`` channels first, as `look_up` does channels last.

    Arguments
    ---------
    codebook : torch.Tensor
        (K, D).
    codes : torch.Tensor
        (B, ...) int64 in [-1, K).

    Returns
    -------
    torch.Tensor
        (B, D, ...), with gradient to ``codebook``; NaN for -1.

    Example
    -------
    >>> look_up_channels(torch.tensor([[5.0, 6.0]]), torch.tensor([[0, -1]]))
    tensor([[[5., nan],
             [6., nan]]])
    """
    if torch.jit.is_tracing():
        # A custom autograd function cannot be saved.
        return look_up(codebook, codes).movedim(-1, 1).contiguous()
    return _LookUpChannels.apply(codebook, codes)


def look_up(codebook: Tensor, codes: Tensor) -> Tensor:
    """Return the keys of ``codes``, with gradient to ``codebook``; NaN for -1.

    Arguments
    ---------
    codebook : torch.Tensor
        (K, D).
    codes : torch.Tensor
        (...) int64 in [-1, K).

    Returns
    -------
    torch.Tensor
        (..., D).

    Example
    -------
    >>> look_up(torch.tensor([[5.0], [6.0]]), torch.tensor([1, -1]))
    tensor([[6.],
            [nan]])
    """
    found = F.embedding(codes.clamp(min=0), codebook)
    return torch.where((codes >= 0)[..., None], found, torch.nan)


def _check_vectors(x: Tensor, codebook: Tensor) -> None:
    if not x.is_floating_point():
        raise ShapeError(f"vectors to quantize must be float, got {x.dtype}")
    if x.dim() < 2 or codebook.dim() != 2 or x.shape[-1] != codebook.shape[1]:
        raise ShapeError(
            f"vectors (B, ..., D) = {tuple(x.shape)} and a dictionary (K, D) = "
            f"{tuple(codebook.shape)} do not fit: D, the width of a vector, must be "
            "the same"
        )


def _class_labels(labels: Tensor, x: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return labels as int64 (B,) beside ``x``, and which of them name a class."""
    if labels.numel() != x.shape[0]:
        raise ShapeError(
            f"labels must be ({x.shape[0]},), one for each item of the batch; got "
            f"{tuple(labels.shape)}"
        )
    given = labels.reshape(-1)
    whole = given.long()
    known = (whole == given) & (whole >= 0) & (whole < classes)
    if eager_on_cpu(given) and not known.all():
        raise ValueError(
            f"labels must be whole numbers in [0, {classes}), got {given.tolist()}"
        )
    return whole.masked_fill(~known, 0).to(x.device), known.to(x.device)
