"""The dictionary of PIQ: a codebook that is partitioned among classes.

Paissan et al. 2023, "Posthoc Interpretation via Quantization",
https://arxiv.org/abs/2303.12659, section 3.2.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.ops.devices import eager_on_cpu
from sb_espnet_vq.ops.ema import code_sums
from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.frames import finite_rows
from sb_espnet_vq.ops.look_up import look_up, look_up_channels
from sb_espnet_vq.quantizers.class_partitioned import ClassPartitionedVQ, class_of_keys
from sb_espnet_vq.quantizers.learning import FreezableModule
from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.quantizers.precision import full_precision


def get_irrelevant_regions(
    labels: Tensor, K: int, num_classes: int, N_shared: int = 5, stage: str = "TRAIN"
) -> Tensor:
    """Return a mask of the codes that are not available to each label.

    Arguments
    ---------
    labels : torch.Tensor
        (B,) classes, of any dtype.
    K : int
        Number of codebook vectors.
    num_classes : int
        Number of classes; the first K - N_shared codebook vectors are partitioned
        among them.
    N_shared : int
        Number of codebook vectors, at the end, that belong to no class.
    stage : str
        With "TRAIN" the shared vectors are not available; otherwise they are.

    Returns
    -------
    torch.Tensor
        (B, K) bool on the device of ``labels``, True if a code is not available.

    Raises
    ------
    ConfigError
        If N_shared exceeds K.

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
    """Autograd function that returns codes of vectors; call it through ``apply``.

    ``apply(inputs, codebook, labels=None, num_classes=10,
    activate_class_partitioning=True, shared_keys=10, training=True)`` takes these
    positional arguments:

    Arguments
    ---------
    inputs : torch.Tensor
        (B, W, H, C) float, or any number of axes between the first and the last.
    codebook : torch.Tensor
        (K, C) codebook vectors.
    labels : torch.Tensor, optional
        (B,) classes; integers of any dtype. Without them all codes are available.
    num_classes : int
        Number of classes among which the codebook is partitioned.
    activate_class_partitioning : bool
        False makes all codes available to all labels.
    shared_keys : int
        Number of codebook vectors, at the end, that belong to no class; not available
        in training.
    training : bool
        Whether the shared vectors are unavailable.

    Returns
    -------
    torch.Tensor
        (B, W, H) int64; -1 where a vector is not finite.

    Raises
    ------
    ShapeError
        If the shapes do not fit each other.
    ConfigError
        If a class would have no codebook vector.
    ValueError
        If a label is not a class (eager mode on a CPU; else codes of -1).

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
        _check_vectors(inputs, codebook)
        partition = activate_class_partitioning and labels is not None
        quantizer = _around(codebook, num_classes, partition, shared_keys)
        labels = labels if partition else None
        codes = _encode(quantizer.train(training), inputs, labels, num_classes)
        ctx.mark_non_differentiable(codes)
        return codes

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(
            "VectorQuantization returns codes, which have no gradient; use "
            "VectorQuantizationStraightThrough to train through the quantization"
        )


class VectorQuantizationStraightThrough(torch.autograd.Function):
    """Autograd function that quantizes straight-through; call it through ``apply``.

    van den Oord et al. 2017, "Neural Discrete Representation Learning", section 3.2.
    The arguments and errors are those of `VectorQuantization`. The gradient is passed
    to ``inputs`` unchanged, and to the selected codebook vectors if ``codebook``
    requires it.

    Returns
    -------
    values : torch.Tensor
        (B, W, H, C) codebook vectors in the dtype of ``codebook``; NaN where a vector
        is not finite.
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
        indices = VectorQuantization.apply(inputs, codebook, *options)
        codes = indices.reshape(-1)
        ctx.save_for_backward(codes)
        ctx.keys, ctx.options = codebook.shape[0], len(options)
        ctx.mark_non_differentiable(codes)
        return look_up(codebook, indices), codes

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


class VQEmbedding(FreezableModule):
    """Dictionary of K codebook vectors that are partitioned among classes.

    It holds a `ClassPartitionedVQ` and has no loss: the trainer computes losses from
    the two outputs of `straight_through`. Its only checkpoint key is
    ``embedding.weight``.

    Arguments
    ---------
    K : int
        Number of codebook vectors.
    D : int
        Width of a codebook vector.
    numclasses : int
        Number of classes.
    activate_class_partitioning : bool
        False makes all codebook vectors available to all classes.
    shared_keys : int
        Number of codebook vectors, at the end, that belong to no class; not available
        in training.

    Raises
    ------
    ConfigError
        If a class would have no codebook vector.

    Example
    -------
    >>> dictionary = VQEmbedding(K=20, D=8, numclasses=2)
    >>> z, labels = torch.randn(2, 8, 5, 4), torch.tensor([0, 1])
    >>> codes = dictionary(z, labels)
    >>> codes.shape, bool((codes[0] < 10).all()), bool((codes[1] >= 10).all())
    (torch.Size([2, 5, 4]), True, True)
    """

    # TorchScript skips this attribute: scripted methods run in Python, where
    # `_codes_of_map` builds a quantizer from the weight.
    __jit_ignored_attributes__ = ["quantizer"]

    def __init__(
        self,
        K: int,
        D: int,
        numclasses: int = 50,
        activate_class_partitioning: bool = True,
        shared_keys: int = 0,
    ):
        super().__init__()
        partition = activate_class_partitioning
        quantizer = _quantizer(K, D, numclasses, partition, shared_keys)
        # Registered before the quantizer, so that the parameter has upstream's name.
        self.embedding = quantizer.embedding
        self.quantizer = quantizer
        self.numclasses = positive_int("numclasses", numclasses)
        self.activate_class_partitioning = activate_class_partitioning
        self.shared_keys = shared_keys
        self.register_state_dict_post_hook(_name_once)
        self.register_load_state_dict_pre_hook(_name_twice)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "embedding" and "quantizer" in self._modules:
            self.quantizer.embedding = value

    # A scripted module calls both methods in Python, so it cannot be saved; neither can
    # SpeechBrain's. A traced module can be saved.
    @torch.jit.ignore
    def forward(self, z_e_x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the nearest available code of each vector, without gradient.

        Arguments
        ---------
        z_e_x : torch.Tensor
            (B, D, H, W) float.
        labels : torch.Tensor, optional
            (B,) classes; integers of any dtype. Without them all codes are available.

        Returns
        -------
        torch.Tensor
            (B, H, W) int64; -1 where a vector is not finite.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        ValueError
            If a label is not a class (eager mode on a CPU; else codes of -1).
        """
        return _codes_of_map(self, z_e_x, labels)

    @torch.jit.ignore
    def straight_through(
        self, z_e_x: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the nearest codebook vectors with gradient to input and dictionary.

        Arguments
        ---------
        z_e_x, labels
            As in ``forward``.

        Returns
        -------
        z_q_x : torch.Tensor
            (B, D, H, W) with gradient to ``z_e_x``. NaN where a vector is not finite,
            or, on a GPU, its label is not a class.
        z_q_x_bar : torch.Tensor
            The same values with gradient to the dictionary.

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
        codes = _codes_of_map(self, z_e_x, labels)
        bar = look_up_channels(self.embedding.weight, codes)
        return straight_through(z_e_x, bar.detach()), bar

    def extra_repr(self) -> str:
        """Name the options in ``repr``."""
        return (
            f"numclasses={self.numclasses}, shared_keys={self.shared_keys}, "
            f"activate_class_partitioning={self.activate_class_partitioning}"
        )


def _name_once(module: nn.Module, state: dict[str, Any], prefix: str, *_) -> None:
    state.pop(f"{prefix}quantizer.embedding.weight", None)


def _name_twice(module: nn.Module, state: dict[str, Any], prefix: str, *_) -> None:
    name = "embedding.weight"
    if prefix + name in state:
        state[f"{prefix}quantizer.{name}"] = state[prefix + name]


def _codes_of_map(
    dictionary: VQEmbedding, z_e_x: Tensor, labels: Tensor | None
) -> Tensor:
    # A function: within a script, an ignored method cannot call another one.
    if not isinstance(z_e_x, Tensor) or z_e_x.dim() < 2:
        got = getattr(z_e_x, "shape", type(z_e_x).__name__)
        raise ShapeError(f"VQEmbedding takes (B, D, H, W), got {got}")
    partition, classes = dictionary.activate_class_partitioning, dictionary.numclasses
    if isinstance(dictionary, torch.jit.ScriptModule):
        # A script module keeps only tensors and numbers as attributes.
        table, shared = dictionary.embedding.weight, dictionary.shared_keys
        quantizer = _around(table, classes, partition, shared)
        quantizer.train(dictionary.training)
    else:
        quantizer = dictionary.quantizer
    labels = labels if partition else None
    return _encode(quantizer, z_e_x.movedim(1, -1), labels, classes)


def _quantizer(
    keys: int, dim: int, num_classes: int, partition: bool, shared: int
) -> ClassPartitionedVQ:
    classes = (num_classes, shared) if partition else (1, 0)
    return ClassPartitionedVQ(positive_int("D", dim), positive_int("K", keys), *classes)


def _around(
    codebook: Tensor, num_classes: int, partition: bool, shared: int
) -> ClassPartitionedVQ:
    """Return a quantizer with the codebook ``codebook``."""
    keys, dim = codebook.shape
    with torch.device("meta"):  # no initialization, no random draws
        quantizer = _quantizer(keys, dim, num_classes, partition, shared)
    quantizer.embedding.weight = nn.Parameter(codebook.detach(), requires_grad=False)
    return quantizer.to(codebook.device)


@torch.no_grad()
def _encode(
    quantizer: ClassPartitionedVQ, x: Tensor, labels: Tensor | None, classes: int
) -> Tensor:
    """Return the codes (B, ...) of vectors (B, ..., D), -1 where there is none.

    Unlike the quantizer's ``encode``, it does not copy maps in channels-first layout.
    """
    _check_vectors(x, quantizer.embedding.weight)
    items = x.flatten(1, -2) if x.dim() > 2 else x[:, None]
    valid = finite_rows(items)
    if labels is not None:
        labels, known = _class_labels(labels, x, classes)
        valid = valid & known[:, None]
    with full_precision(x):
        if items.dtype != torch.float64:
            items = items.float()
        if not (eager_on_cpu(valid) and bool(valid.all())):
            items = torch.where(valid[..., None], items, 0)
        codes = quantizer.nearest_keys(items, labels)
    return torch.where(valid, codes, -1).view(x.shape[:-1])


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
    """Return labels as int64 (B,) on the device of ``x``, and whether each is valid."""
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
            f"labels must be integers in [0, {classes}), got {given.tolist()}"
        )
    return whole.masked_fill(~known, 0).to(x.device), known.to(x.device)
