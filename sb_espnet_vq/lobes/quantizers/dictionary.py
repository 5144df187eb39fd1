"""Dictionary adapter: quantizes the latent vectors of a classifier, as in PIQ."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.lobes.models.piq_dictionary import VQEmbedding
from sb_espnet_vq.lobes.quantizers.brain_scale import BrainScale
from sb_espnet_vq.lobes.quantizers.options import squeeze_codes
from sb_espnet_vq.nnet.state_names import keep_upstream_names
from sb_espnet_vq.ops.devices import eager_on_cpu
from sb_espnet_vq.ops.estimators import attach_loss, straight_through
from sb_espnet_vq.quantizers.learning import FreezableModule
from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.registry import build, same_quantizer
from sb_espnet_vq.toolkit_words import translate

_DROP_IN_OPTIONS = {"dim", "codebook_size", "num_classes", "shared_keys"}


class DictionaryQuantizer(FreezableModule):
    """Adapter for any quantizer, with the interface of `VQEmbedding`.

    `VQEmbedding` returns no loss, so the quantizer's loss is attached to the first
    output of ``straight_through``: its gradient is added in the backward pass, with
    weight 1 relative to the trainer's loss. ``scale_loss`` applies the loss scaling of
    the trainer; see `ContrastiveQuantizer`. This loss trains the codebook of
    `entropy_vq`; in training, ``straight_through`` updates the moving averages of `vq`
    and `rvq`. The commitment_weight is 0 unless ``quantizer_conf`` sets it, since PIQ's
    trainer computes that term itself.

    Arguments
    ---------
    K : int
        Number of codebook vectors.
    D : int
        Width of a codebook vector.
    numclasses : int
        Number of classes, for a quantizer with a codebook partitioned among classes.
    activate_class_partitioning : bool
        False makes all codebook vectors available to all classes.
    shared_keys : int
        Number of codebook vectors that belong to no class, for such a quantizer.
    quantizer : str
        A registered name. `class_partitioned` is the drop-in class itself, with
        upstream's results, unless ``quantizer_conf`` sets loss weights: PIQ's trainer
        computes these losses from the two outputs. With loss weights the quantizer's
        own losses train the codebook. The state dict has upstream's keys in both cases.
    quantizer_conf : dict, optional
        Options of the quantizer; they override the arguments above.

    Raises
    ------
    ConfigError
        If the name or an option is unknown or out of range, or a class would have
        no codebook vector.

    Example
    -------
    >>> dictionary = DictionaryQuantizer(K=20, D=8, quantizer="vq")
    >>> z_q, z_q_bar = dictionary.straight_through(torch.randn(2, 8, 5, 4))
    >>> z_q.shape, bool((z_q == z_q_bar).all())
    (torch.Size([2, 8, 5, 4]), True)
    """

    quantizer: Any

    def __init__(
        self,
        K: int,
        D: int,
        numclasses: int = 50,
        activate_class_partitioning: bool = True,
        shared_keys: int = 0,
        *,
        quantizer: str = "class_partitioned",
        quantizer_conf: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.activate_class_partitioning = activate_class_partitioning
        self.scale_loss: Callable[[Tensor], Tensor] = BrainScale()
        words = {
            "D": positive_int("D", D),
            "K": positive_int("K", K),
            "n_codebooks": 1,
            "commitment_weight": 0.0,
            "numclasses": numclasses if activate_class_partitioning else 1,
            "shared_keys": shared_keys if activate_class_partitioning else 0,
        }
        options = translate(quantizer, words, quantizer_conf)
        default = same_quantizer(quantizer, "class_partitioned")
        only_sizes = _DROP_IN_OPTIONS.issuperset(quantizer_conf or ())
        self._is_drop_in = default and only_sizes
        if self._is_drop_in:
            self.quantizer = VQEmbedding(
                options["codebook_size"],
                options["dim"],
                options["num_classes"],
                activate_class_partitioning,
                options["shared_keys"],
            )
        else:
            self.quantizer = build(quantizer, **options)
        if default:
            keep_upstream_names(self)
        uses_labels = self._is_drop_in or self.quantizer.needs_labels
        self.needs_labels = activate_class_partitioning and uses_labels
        self.learns_by_gradient = any(True for _ in self.quantizer.parameters())

    def forward(self, z_e_x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the codes of vectors, without gradient and without changing state.

        Arguments
        ---------
        z_e_x : torch.Tensor
            (B, D, H, W) float.
        labels : torch.Tensor, optional
            (B,) classes, integers of any dtype. Required by a quantizer with a
            codebook partitioned among classes; others ignore them.

        Returns
        -------
        torch.Tensor
            (B, H, W) int64, or (B, H, W, K) if ``quantizer_conf`` sets K > 1
            codebooks; -1 where a vector is not finite.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong, or labels are missing.
        ValueError
            If a label is not a class (eager mode on a CPU; else codes of -1).
        """
        labels = self._labels(labels)
        if self._is_drop_in:
            return self.quantizer(z_e_x, labels)
        return squeeze_codes(self.quantizer.encode(_frames(z_e_x), labels=labels))

    def straight_through(
        self, z_e_x: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return quantized vectors with two gradients; in training, update buffers.

        Arguments
        ---------
        z_e_x, labels
            As in ``forward``.

        Returns
        -------
        z_q_x : torch.Tensor
            (B, D, H, W) with the gradient of the quantizer's value, to ``z_e_x``, and
            that of its loss. NaN where a vector is not finite.
        z_q_x_bar : torch.Tensor
            The same values, with the gradient of ``decode``: with the default, to the
            codebook vectors. Without gradient for quantizers that train their codebook
            by moving averages or by their own loss.

        Raises
        ------
        ShapeError, ValueError
            As in ``forward``.
        """
        labels = self._labels(labels)
        if self._is_drop_in:
            return self.quantizer.straight_through(z_e_x, labels)
        out = self.quantizer(_frames(z_e_x), labels=labels)
        bar = out.quantized.detach()
        if self.learns_by_gradient:
            decoded = self.quantizer.decode(out.codes)
            # The value from the lookup: training may have updated the codebook since.
            bar = straight_through(decoded, bar.to(decoded.dtype)).to(bar.dtype)
        value = attach_loss(out.quantized, self.scale_loss(out.loss))
        return value.movedim(-1, 1), bar.movedim(-1, 1)

    def _labels(self, labels: Tensor | None) -> Tensor | None:
        """Return the labels as the quantizer takes them, None if it uses none."""
        if not self.needs_labels:
            return None
        if labels is None:
            raise ShapeError(
                "this dictionary is partitioned among classes, so it needs labels "
                "(B,), one for each item of the batch; got None. "
                "activate_class_partitioning=False makes all codebook vectors "
                "available to all classes"
            )
        if self._is_drop_in:
            return labels
        whole = labels.reshape(-1).long()
        if eager_on_cpu(labels) and not torch.equal(whole, labels.reshape(-1)):
            raise ValueError(f"labels must be integers, got {labels.tolist()}")
        return whole


def _frames(z: Tensor) -> Tensor:
    if not isinstance(z, Tensor) or z.dim() < 2:
        got = getattr(z, "shape", type(z).__name__)
        raise ShapeError(f"a dictionary takes (B, D, H, W), got {got}")
    return z.movedim(1, -1)
