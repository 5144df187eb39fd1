"""Interface of every quantizer: public methods, and methods that subclasses define."""

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.devices import eager_on_cpu
from sb_espnet_vq.quantizers.batches import BatchModule
from sb_espnet_vq.quantizers.checks import (
    check_codes,
    check_held,
    check_vectors,
    out_of_range,
    signed_codes,
)
from sb_espnet_vq.quantizers.grid import Grid
from sb_espnet_vq.quantizers.options import integer_from, positive_int
from sb_espnet_vq.quantizers.outputs import Quantized, QuantizerOutput
from sb_espnet_vq.quantizers.precision import full_precision

__all__ = ["Quantized", "Quantizer", "QuantizerOutput"]

# Largest codebook size for `codebook_vectors` of quantizers without a table.
_MAX_LISTED = 2**16

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Quantizer(BatchModule):
    """Base class of all quantizers: ``forward``, ``encode`` and ``decode``.

    Subclasses implement ``_quantize`` (frames to values, codes and loss terms),
    ``_search`` (frames to codes) and ``_decode`` (codes to values) on flat frames
    (N, dim). Padding and non-finite frames are rows of zeros there; weight sums over
    frames by ``frames.weight`` to exclude them.

    Arguments
    ---------
    dim : int
        Width of the input and output frames.
    codebook_size : int
        Number of codes in each codebook, or in the largest one if sizes differ (see
        ``codebook_sizes``).
    n_codebooks : int
        Number of codebooks, and thus of codes per frame.

    Attributes
    ----------
    frozen : bool
        Whether training leaves parameters and buffers unchanged; set by
        ``requires_grad_``.

    Raises
    ------
    ConfigError
        If an argument is not a positive integer.
    """

    #: Weight of each loss term that ``_quantize`` returns.
    loss_weights: dict[str, float]
    #: Whether training samples codes.
    draws_codes: bool = False
    #: Whether training adds noise to the values, which then differ from those of the
    #: codes.
    adds_noise: bool = False
    #: Number of classes for ``labels``; None if labels are not used.
    num_classes: int | None = None
    #: Whether memory grows with ``codebook_size``: true for stored codebook vectors,
    #: false for implicit ones (signs, rounded scalars). A class attribute, so that it
    #: can be read before construction.
    has_table: bool = True
    #: Whether `forward_with_usage` returns probabilities of codes.
    gives_probabilities: bool = False
    #: Whether ``forward`` also takes ``inv_temperature``, the inverse temperature of
    #: the soft assignment in this call.
    takes_inv_temperature: bool = False
    #: Whether ``encode`` also takes ``beam``, the number of chains of codes that its
    #: search keeps.
    takes_beam: bool = False
    #: Whether the codes of codebooks dropped in training (quantizer dropout) are
    #: returned as -1. Codecs that return all codes set it to False.
    marks_dropped: bool = True

    def __init__(self, dim: int, codebook_size: int, n_codebooks: int = 1):
        super().__init__()
        self.dim = positive_int("dim", dim)
        self.codebook_size = positive_int("codebook_size", codebook_size)
        self.n_codebooks = positive_int("n_codebooks", n_codebooks)
        self.loss_weights = {}

    @classmethod
    def options(
        cls, given: Mapping[str, Any] = NOTHING
    ) -> dict[str, inspect.Parameter]:
        """Return the options of the constructor, in its order.

        Arguments
        ---------
        given : Mapping
            Options that will be passed. Some may decide which others there are:
            ``codebook`` of `VQ` and `RVQ` adds the options of that codebook.

        Returns
        -------
        dict
            Option name to ``inspect.Parameter``, which holds its default.

        Raises
        ------
        ConfigError
            If a given option that decides has an unknown value.
        """
        return dict(inspect.signature(cls).parameters)

    @abstractmethod
    def _decode(self, codes: Tensor) -> Tensor:
        """Return the values (N, dim) of codes (N, K); -1 contributes 0.

        If the value passes no gradient to the codebook, detach the codebook here.
        """

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each codebook.

        Quantizers with codebooks of different sizes override it; the largest size is
        their ``codebook_size``.
        """
        return (self.codebook_size,) * self.n_codebooks

    @property
    def needs_labels(self) -> bool:
        """Whether codes depend on ``labels``."""
        return self.num_classes is not None

    @property
    def grid(self) -> Grid | None:
        """The evenly spaced values of a quantizer without codebook vectors.

        For each channel that it quantizes, behind its own projections if it has any.
        None for quantizers whose codebook vectors adapt to the frames.
        """
        return None

    @property
    def sampling_temperature(self) -> Tensor | float:
        """Temperature at which training samples codes; 0 if it does not sample."""
        return 0.0

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        n_codebooks: int | None = None,
    ) -> QuantizerOutput:
        """Quantize a batch; in training, learn from it.

        Arguments
        ---------
        x : torch.Tensor
            (B, T, dim) float, or any leading shape.
        mask : torch.Tensor, optional
            (B, T) bool, True at valid frames.
        labels : torch.Tensor, optional
            (B,) int64, the class of each utterance.
        n_codebooks : int, optional
            Use only the first ``n_codebooks`` codebooks; the others are not updated.
            Default: all.

        Returns
        -------
        QuantizerOutput
            ``codes`` has ``n_codebooks`` columns.

        Raises
        ------
        ShapeError
            If a shape, dtype, layout or device is wrong; raised before any state
            changes.
        ValueError
            If a label is out of range, in eager mode on a CPU. Otherwise the frames of
            that utterance become NaN.
        ConfigError
            If ``n_codebooks`` is not an integer from 1 to the number of codebooks.
        """
        return self._forward(x, mask, labels, n_codebooks)[0]

    def forward_with_usage(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        n_codebooks: int | None = None,
    ) -> tuple[QuantizerOutput, Tensor | None]:
        """Do what ``forward`` does; also return the mean probability of each code.

        Arguments
        ---------
        x, mask, labels, n_codebooks
            As in ``forward``.

        Returns
        -------
        out : QuantizerOutput
            As from ``forward``.
        usage : torch.Tensor, optional
            (n_codebooks, codebook_size) mean probability of each code over the valid
            frames of all ranks, with gradient, for losses on the code distribution.
            None unless ``gives_probabilities``.

        Raises
        ------
        ShapeError, ValueError, ConfigError
            As in ``forward``.
        """
        if not self.gives_probabilities:
            out = self(x, mask=mask, labels=labels, n_codebooks=n_codebooks)
            return out, None
        out, result = self._forward(x, mask, labels, n_codebooks)
        return out, result.usage

    @torch.no_grad()
    def encode(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        n_codebooks: int | None = None,
    ) -> Tensor:
        """Return the codes of a batch without changing state.

        Arguments
        ---------
        x, mask, labels, n_codebooks
            As in ``forward``.

        Returns
        -------
        torch.Tensor
            (B, T, n_codebooks) int64, -1 at padding and non-finite frames.

        Raises
        ------
        ShapeError, ValueError, ConfigError
            As in ``forward``.
        """
        return self._encode(x, mask, labels, n_codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the values of codes.

        Arguments
        ---------
        codes : torch.Tensor
            (..., K) integers, the codes of the first K codebooks, 1 <= K <=
            n_codebooks; fewer give a coarser value. A code of -1 contributes 0. In an
            unsigned dtype, the largest value means -1 unless it is a valid code.

        Returns
        -------
        torch.Tensor
            (..., dim) float32 (float64 for a float64 module).

        Raises
        ------
        ShapeError
            If codes are not integers, K is out of range, or the device is wrong.
        ValueError
            If a code is out of range, in eager mode on a CPU. Otherwise the frame
            becomes NaN.
        """
        name = type(self).__name__
        self._check_placement(codes=codes)
        check_codes(name, self.n_codebooks, codes)
        flat = signed_codes(codes.reshape(-1, codes.shape[-1]), self.codebook_size)
        bad = out_of_range(flat, self.codebook_sizes).any(-1)
        if eager_on_cpu(codes) and bool(bad.any()):
            sizes = sorted(set(self.codebook_sizes))
            limits = " or ".join(f"[-1, {size})" for size in sizes)
            raise ValueError(
                f"{name}: codes must lie in {limits}, got "
                f"{int(flat.min())} to {int(flat.max())}; -1 marks a missing frame"
            )
        with full_precision(codes):
            value = self._decode(flat.masked_fill(bad[:, None], -1))
            value = torch.where(bad[:, None], torch.nan, value)
        return value.reshape(*codes.shape[:-1], value.shape[1])

    @torch.no_grad()
    def codebook_vectors(self) -> Tensor:
        """Return what each code adds to ``decode``, without gradient.

        The value of a frame is the sum of the vectors of its codes. A quantizer whose
        codebooks do not add up overrides this method and raises `ConfigError`.

        Returns
        -------
        torch.Tensor
            (n_codebooks, codebook_size, dim) in the dtype of ``decode``; 0 beyond the
            last code of a smaller codebook.

        Raises
        ------
        ConfigError
            If a quantizer without a table has more than 2**16 codes in a codebook.
        """
        if not self.has_table and self.codebook_size > _MAX_LISTED:
            raise ConfigError(
                f"{type(self).__name__} has {self.codebook_size} codes in a codebook, "
                f"too many to list (at most {_MAX_LISTED}); decode() gives the values "
                "of the codes in use"
            )
        numbers = torch.arange(self.codebook_size, device=self._device())
        vectors = []
        for column, size in enumerate(self.codebook_sizes):
            # Codes of the other codebooks are -1 and contribute 0.
            codes = numbers.new_full((len(numbers), self.n_codebooks), -1)
            codes[:, column] = torch.where(numbers < size, numbers, -1)
            vectors.append(self.decode(codes))
        return torch.stack(vectors)

    @torch.no_grad()
    def set_codebook_vectors(self, vectors: Tensor) -> None:
        """Replace what each code adds to ``decode``.

        Averages that training updates are set to match, so that it may continue.

        Arguments
        ---------
        vectors : torch.Tensor
            In the shape that ``codebook_vectors`` returns, finite float.

        Raises
        ------
        ShapeError
            If the shape, dtype or device is wrong, or a value is not finite.
        ConfigError
            If the vectors of this quantizer cannot be replaced by any others.
        """
        name = type(self).__name__
        self._check_placement(vectors=vectors)
        shape = (self.n_codebooks, self.codebook_size, self.dim)
        check_vectors(name, vectors, shape)
        self._set_codebook_vectors(vectors)

    def set_step(self, step: int) -> None:
        """Set the number of completed training steps, for schedules.

        Arguments
        ---------
        step : int
            At least 0. Quantizers without a schedule ignore it.

        Raises
        ------
        ConfigError
            If ``step`` is not an integer of at least 0.
        """
        self._set_step(integer_from(0, "step", step))

    def hold(self, entries: Tensor | None) -> None:
        """Exclude some codebook vectors from updates.

        Arguments
        ---------
        entries : torch.Tensor, optional
            (n_codebooks, codebook_size) bool, True for vectors to exclude; or
            (codebook_size,), the same for all codebooks. None: all vectors learn.
            Not part of the state: set it again after rebuilding a model. In
            codebooks that are parameters, excluded vectors get zero gradients, but
            weight decay would still change them: exclude the codebook from it.

        Raises
        ------
        ShapeError
            If ``entries`` is not a bool tensor of one of these shapes.
        ConfigError
            If this quantizer has no codebook vectors that learn.
        """
        shape = (self.n_codebooks, self.codebook_size)
        if entries is not None:
            check_held(type(self).__name__, entries, shape)
            device = self._device() or entries.device
            entries = entries.expand(shape).to(device, copy=True)
        self._hold(entries)

    def extra_repr(self) -> str:
        """Show the sizes in ``repr``."""
        return (
            f"dim={self.dim}, codebook_size={self.codebook_size}, "
            f"n_codebooks={self.n_codebooks}"
        )

    def _set_step(self, step: int) -> None:
        """Set the step of a schedule; no operation by default."""

    def _set_codebook_vectors(self, vectors: Tensor) -> None:
        """Replace the vectors, (n_codebooks, codebook_size, dim), or refuse."""
        raise ConfigError(
            f"{type(self).__name__}: its codebook vectors cannot be replaced, since "
            "they are not stored as vectors in the width of the frames"
        )

    def _hold(self, entries: Tensor | None) -> None:
        """Set the vectors to exclude: (n_codebooks, codebook_size) bool, or None."""
        raise ConfigError(
            f"{type(self).__name__} has no codebook vectors that learn; "
            "requires_grad_(False) freezes the whole quantizer"
        )
