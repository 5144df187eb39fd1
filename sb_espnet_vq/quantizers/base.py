"""What every quantizer shares: masking, losses, statistics and ranks."""

from abc import ABC, abstractmethod
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.collectives import world_size
from sb_espnet_vq.ops.devices import eager_on_cpu, tracing
from sb_espnet_vq.ops.estimators import keep_in_graph
from sb_espnet_vq.ops.frames import Frames, flat_frames
from sb_espnet_vq.ops.nearest import tile_rows
from sb_espnet_vq.ops.usage import code_counts, usage_of_codes, usage_of_counts
from sb_espnet_vq.quantizers.checks import (
    check_codes,
    check_held,
    check_input,
    check_labels,
    check_placement,
    signed_codes,
)
from sb_espnet_vq.quantizers.learning import LearningModule
from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.quantizers.precision import full_precision

# Above this many codes, usage is taken from the codes of one rank, since a count
# for each entry would outweigh the batch.
_MAX_COUNTED = 2**16


class QuantizerOutput(NamedTuple):
    """What a quantizer returns.

    Arguments
    ---------
    quantized : torch.Tensor
        (..., D) in the dtype of the input; 0 without gradient where masked, NaN
        where the input was not finite.
    codes : torch.Tensor
        (..., K) int64, -1 where there is no real, finite frame.
    loss : torch.Tensor
        Scalar float32 to add to the trainer's own loss.
    stats : dict
        Detached scalars: ``perplexity`` and ``used_codes`` (means over codebooks)
        and each loss term before its weight.
    """

    quantized: Tensor
    codes: Tensor
    loss: Tensor
    stats: dict[str, Tensor]


class Quantized(NamedTuple):
    """What a family returns for flat frames.

    Arguments
    ---------
    value : torch.Tensor
        (N, dim), with whatever gradient it should carry.
    codes : torch.Tensor
        (N, K) int64; -1 allowed, and anything in range at invalid frames.
    terms : dict
        Name of each loss term and its mean over frames, averaged over codebooks;
        the weights are in the family's ``loss_weights``.
    counts : torch.Tensor, optional
        (K, V) uses of each code over all ranks, where the family has them anyway.
    usage : torch.Tensor, optional
        (K, V) mean over the real frames of all ranks of how probable each code was,
        with gradient, where the family has it anyway (see ``gives_usage``).
    """

    value: Tensor
    codes: Tensor
    terms: dict[str, Tensor]
    counts: Tensor | None = None
    usage: Tensor | None = None


class Quantizer(LearningModule, ABC):
    """Base of all quantizers: ``forward``, ``encode`` and ``decode``.

    A family implements ``_quantize`` (frames to values, codes and loss terms),
    ``_search`` (frames to codes) and ``_decode`` (codes to values). It gets flat
    float32 (or float64) frames with autocast off, in which rows that are padding or
    not finite are zero, and need not think of them except to weigh its sums by
    ``frames.weight``.

    Arguments
    ---------
    dim : int
        Width of the frames that go in and come out.
    codebook_size : int
        Codes in each codebook.
    n_codebooks : int
        Codes for each frame.

    Raises
    ------
    ConfigError
        If one of them is not a positive integer.
    """

    #: Weight of each loss term that ``_quantize`` returns.
    loss_weights: dict[str, float]
    #: Whether training draws codes at random.
    draws_codes: bool = False
    #: Classes that ``labels`` may name; None where the family uses no labels.
    num_classes: int | None = None
    #: Whether ``_quantize`` finds the mean usage of codes, with gradient.
    gives_usage: bool = False

    def __init__(self, dim: int, codebook_size: int, n_codebooks: int = 1):
        super().__init__()
        self.dim = positive_int("dim", dim)
        self.codebook_size = positive_int("codebook_size", codebook_size)
        self.n_codebooks = positive_int("n_codebooks", n_codebooks)
        self.loss_weights = {}

    @abstractmethod
    def _quantize(self, frames: Frames) -> Quantized:
        """Quantize frames for ``forward``; in training, update buffers after.

        A family whose own ``forward`` has further options may take them here.
        """

    @abstractmethod
    def _search(self, frames: Frames) -> Tensor:
        """Return the codes (N, K) of frames, changing nothing."""

    @abstractmethod
    def _decode(self, codes: Tensor) -> Tensor:
        """Return the values (N, dim) of codes (N, K); -1 contributes 0.

        A family whose value passes no gradient to its codebook detaches it here.
        """

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, labels: Tensor | None = None
    ) -> QuantizerOutput:
        """Quantize a batch; in training, learn from it.

        Arguments
        ---------
        x : torch.Tensor
            (B, T, dim) float, or any leading shape.
        mask : torch.Tensor, optional
            (B, T) bool, True at real frames.
        labels : torch.Tensor, optional
            (B,) int64, the class of each utterance.

        Returns
        -------
        QuantizerOutput

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong. Nothing has changed then.
        ValueError
            If a label is out of range (eager mode on a CPU; else NaN frames).
        """
        return self._forward(x, mask, labels)[0]

    def forward_with_usage(
        self, x: Tensor, *, mask: Tensor | None = None, labels: Tensor | None = None
    ) -> tuple[QuantizerOutput, Tensor | None]:
        """Do what ``forward`` does; return also how probable each code was.

        Arguments
        ---------
        x, mask, labels
            As in ``forward``.

        Returns
        -------
        out : QuantizerOutput
            As from ``forward``.
        usage : torch.Tensor, optional
            (n_codebooks, codebook_size) mean probability of each code over the real
            frames of all ranks, with gradient, for a loss that wants codes in even
            use. None where the family has none (see ``gives_usage``).

        Raises
        ------
        ShapeError, ValueError
            As in ``forward``.
        """
        if not self.gives_usage:
            return self(x, mask=mask, labels=labels), None
        out, found = self._forward(x, mask, labels)
        return out, found.usage

    @torch.no_grad()
    def encode(
        self, x: Tensor, *, mask: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Return the codes of a batch and change nothing.

        Arguments
        ---------
        x, mask, labels
            As in ``forward``.

        Returns
        -------
        torch.Tensor
            (B, T, n_codebooks) int64, -1 where there is no real, finite frame.

        Raises
        ------
        ShapeError, ValueError
            As in ``forward``.
        """
        return self._encode(x, mask, labels)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the values that codes stand for.

        Arguments
        ---------
        codes : torch.Tensor
            (..., K) integers, K <= n_codebooks: fewer give the coarser value. A
            code of -1 contributes 0. In an unsigned dtype, the largest value means -1
            unless it is a valid code.

        Returns
        -------
        torch.Tensor
            (..., dim) float32 (float64 for a float64 module).

        Raises
        ------
        ShapeError
            If codes are not integers or K does not fit.
        ValueError
            If a code is out of range (eager mode on a CPU; else NaN frames).
        """
        name = type(self).__name__
        self._check_placement(codes=codes)
        check_codes(name, self.n_codebooks, codes)
        flat = signed_codes(codes.reshape(-1, codes.shape[-1]), self.codebook_size)
        bad = ((flat < -1) | (flat >= self.codebook_size)).any(-1)
        if eager_on_cpu(codes) and bool(bad.any()):
            raise ValueError(
                f"{name}: codes must lie in [-1, {self.codebook_size}), got "
                f"{int(flat.min())} to {int(flat.max())}; -1 marks a missing frame"
            )
        with full_precision(codes):
            value = self._decode(flat.masked_fill(bad[:, None], -1))
            value = torch.where(bad[:, None], torch.nan, value)
        return value.reshape(*codes.shape[:-1], value.shape[1])

    def hold(self, entries: Tensor | None) -> None:
        """Exclude some codebook vectors from updates.

        Arguments
        ---------
        entries : torch.Tensor, optional
            (n_codebooks, codebook_size) bool, True for vectors to keep; or
            (codebook_size,), the same for all codebooks. None: all vectors learn.
            Not part of the state: set it again after rebuilding a model. In
            codebooks that are parameters the held vectors get zero gradients, so
            exclude the codebook from weight decay.

        Raises
        ------
        ShapeError
            If it is not a bool tensor of such a shape.
        ConfigError
            If this quantizer has no codebook vectors that learn.
        """
        shape = (self.n_codebooks, self.codebook_size)
        if entries is not None:
            check_held(type(self).__name__, entries, shape)
            device = next(chain(self.parameters(), self.buffers())).device
            entries = entries.expand(shape).to(device, copy=True)
        self._hold(entries)

    def extra_repr(self) -> str:
        """Name the sizes in ``repr``."""
        return (
            f"dim={self.dim}, codebook_size={self.codebook_size}, "
            f"n_codebooks={self.n_codebooks}"
        )

    def _hold(self, entries: Tensor | None) -> None:
        """Set the held vectors, (n_codebooks, codebook_size) bool, or None."""
        raise ConfigError(
            f"{type(self).__name__} has no codebook vectors that learn; "
            "requires_grad_(False) freezes the whole quantizer"
        )

    def _forward(self, x, mask, labels, **options) -> tuple[QuantizerOutput, Quantized]:
        """Do the work of ``forward``; return also what the family found.

        The loss terms found still carry their graphs, which drop-in classes need;
        like the loss they are NaN where a frame is not finite.
        """
        self._check_input(x, mask, labels)
        with self.updates(x):
            return self._run(x, mask, labels, options)

    def _run(self, x, mask, labels, options) -> tuple[QuantizerOutput, Quantized]:
        shared = self.training and world_size() > 1
        if shared:
            self._agree_over_ranks()
        with full_precision(x):
            frames, bad = self._frames(x, mask, labels, shared)
            found = self._quantize(frames, **options)
            stats = self._usage(frames, found)
            stats |= {name: term.detach().float() for name, term in found.terms.items()}
            loss, found = self._loss(found, bad)
        # A copy for the user, who may write into it: the graph may hold the original.
        quantized, codes = found.value, found.codes.clone()
        if not frames.all_valid:
            nothing = torch.where(bad, torch.nan, 0.0)[:, None]
            quantized = torch.where(frames.valid[:, None], quantized, nothing)
            codes = torch.where(frames.valid[:, None], codes, -1)
        lead = x.shape[:-1]
        quantized = quantized.to(x.dtype).reshape(*lead, quantized.shape[1])
        codes = codes.reshape(*lead, codes.shape[1])
        return QuantizerOutput(quantized, codes, loss, stats), found

    def _encode(self, x, mask, labels, **options) -> Tensor:
        self._check_input(x, mask, labels)
        with full_precision(x):
            return self._encode_parts(x, mask, labels, options)

    def _encode_parts(self, x, mask, labels, options) -> Tensor:
        """Encode in halves where there are many frames: memory stays bounded."""
        lead = x.shape[:-1]
        if tracing() or lead.numel() <= tile_rows(x, self.dim):
            frames, _ = self._frames(x, mask, labels, shared=False)
            codes = self._search(frames, **options)
            if not frames.all_valid:
                codes = torch.where(frames.valid[:, None], codes, -1)
            return codes.reshape(*lead, codes.shape[-1])
        axis = lead.index(max(lead))
        each_labels = _halves(labels, 0) if axis == 0 else (labels, labels)
        parts = zip(_halves(x, axis), _halves(mask, axis), each_labels, strict=True)
        return torch.cat([self._encode_parts(*part, options) for part in parts], axis)

    def _frames(self, x, mask, labels, shared: bool) -> tuple[Frames, Tensor]:
        """Return the frames, and which real ones cannot be quantized."""
        if self.num_classes is not None and labels is not None:
            unknown = (labels < 0) | (labels >= self.num_classes)
            labels = labels.masked_fill(unknown, 0)
            # On a device this cannot raise: the utterance turns NaN instead.
            lead = (-1,) + (1,) * (x.dim() - 1)
            x = torch.where(unknown.view(lead), torch.nan, x)
        frames = flat_frames(x, mask, labels, shared)
        bad = ~frames.valid
        return frames, bad if mask is None else bad & mask.reshape(-1)

    def _loss(self, found: Quantized, bad: Tensor) -> tuple[Tensor, Quantized]:
        # The slice costs nothing and keeps a graph where no term has one.
        loss = found.value[:1].sum() * 0
        # A product, not a sum: gradients turn NaN too, which scalers look at.
        spoilt = torch.ones_like(loss).masked_fill(bad.any(), torch.nan)
        loss = loss * spoilt
        terms = {name: term * spoilt for name, term in found.terms.items()}
        for name, term in terms.items():
            loss = loss + self.loss_weights[name] * term
        if self.training and torch.is_grad_enabled() and world_size() > 1:
            # DDP waits for the gradients of all parameters, also of codebooks that this
            # call does not use.
            loss = keep_in_graph(
                loss, [p for p in self.parameters() if p.requires_grad]
            )
        return loss.float(), found._replace(terms=terms)

    @torch.no_grad()
    def _usage(self, frames: Frames, found: Quantized) -> dict[str, Tensor]:
        counts = found.counts
        if counts is None and self.codebook_size > _MAX_COUNTED:
            perplexity, used = usage_of_codes(found.codes, frames.valid)
            return {"perplexity": perplexity, "used_codes": used}
        if counts is None:
            weight = frames.weight[:, None] * (found.codes >= 0)
            codes = found.codes.clamp(min=0)
            counts = frames.total(code_counts(codes, weight, self.codebook_size))
        perplexity, used = usage_of_counts(counts)
        return {"perplexity": perplexity, "used_codes": used}

    def _check_input(self, x, mask, labels) -> None:
        name = type(self).__name__
        self._check_placement(x=x, mask=mask, labels=labels)
        check_input(name, self.dim, x, mask)
        if labels is not None:
            check_labels(name, self.num_classes, x, labels)

    def _check_placement(self, **tensors) -> None:
        if tracing():
            return
        mine = next(chain(self.parameters(), self.buffers()), None)
        device = None if mine is None else mine.device
        check_placement(type(self).__name__, device, **tensors)


def _halves(x: Tensor | None, axis: int) -> tuple[Tensor | None, ...]:
    return (None, None) if x is None else x.tensor_split(2, axis)
