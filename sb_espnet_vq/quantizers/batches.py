"""Base class that flattens batches to frames and restores their shape."""

from abc import ABC, abstractmethod
from itertools import chain

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.collectives import world_size
from sb_espnet_vq.ops.devices import tracing
from sb_espnet_vq.ops.estimators import keep_in_graph
from sb_espnet_vq.ops.frames import Frames, flat_frames
from sb_espnet_vq.ops.nearest import tile_rows
from sb_espnet_vq.ops.usage import code_counts, usage_of_codes, usage_of_counts
from sb_espnet_vq.quantizers.checks import check_input, check_labels, check_placement
from sb_espnet_vq.quantizers.learning import LearningModule
from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.quantizers.outputs import Quantized, QuantizerOutput
from sb_espnet_vq.quantizers.precision import full_precision

# Above this many codes, usage is computed from the codes of one rank only, since the
# counts of all codes would need more memory than the batch.
_MAX_COUNTED = 2**16


class BatchModule(LearningModule, ABC):
    """Masking, precision, losses and statistics around ``_quantize`` and ``_search``.

    Flattens batches of any leading shape to float32 (or float64) frames, with autocast
    disabled and with zeros for padding and non-finite frames.
    """

    dim: int
    codebook_size: int
    n_codebooks: int
    loss_weights: dict[str, float]
    num_classes: int | None
    marks_dropped: bool

    @abstractmethod
    def _quantize(self, frames: Frames) -> Quantized:
        """Quantize frames for ``forward``; in training, then update buffers.

        With several codebooks, use the first ``frames.n_codebooks``. Additional options
        of a subclass's ``forward`` are passed here.
        """

    @abstractmethod
    def _search(self, frames: Frames) -> Tensor:
        """Return the codes (N, K) of frames without changing state.

        K is ``frames.n_codebooks`` in a quantizer with several codebooks. Additional
        options of a subclass's ``encode`` are passed here.
        """

    def _forward(
        self, x, mask, labels, n_codebooks=None, **options
    ) -> tuple[QuantizerOutput, Quantized]:
        """Implement ``forward``; also return the result of ``_quantize``.

        Its loss terms keep their graphs, which drop-in classes need. Like the loss,
        they are NaN if a frame is not finite.
        """
        self._check_input(x, mask, labels)
        used = self._number_of_codebooks(n_codebooks)
        with self.updates(x):
            return self._run(x, mask, labels, used, options)

    def _run(
        self, x, mask, labels, n_codebooks, options
    ) -> tuple[QuantizerOutput, Quantized]:
        shared = self.training and world_size() > 1
        if shared:
            self._agree_over_ranks()
        with full_precision(x):
            frames, bad = self._frames(x, mask, labels, shared, n_codebooks)
            result = self._quantize(frames, **options)
            if result.kept is not None and self.marks_dropped:
                # The counts are those of all codes, not only of the kept ones.
                codes = torch.where(result.kept, result.codes, -1)
                result = result._replace(codes=codes, counts=None)
            stats = self._usage(frames, result)
            stats |= {
                name: term.detach().float() for name, term in result.terms.items()
            }
            loss, result = self._loss(result, bad)
        # A copy, since the user may modify it and the graph may hold the original.
        quantized, codes = result.value, result.codes.clone()
        if not frames.all_valid:
            nothing = torch.where(bad, torch.nan, 0.0)[:, None]
            quantized = torch.where(frames.valid[:, None], quantized, nothing)
            codes = torch.where(frames.valid[:, None], codes, -1)
        lead = x.shape[:-1]
        quantized = quantized.to(x.dtype).reshape(*lead, quantized.shape[1])
        codes = codes.reshape(*lead, codes.shape[1])
        return QuantizerOutput(quantized, codes, loss, stats), result

    def _encode(self, x, mask, labels, n_codebooks=None, **options) -> Tensor:
        self._check_input(x, mask, labels)
        used = self._number_of_codebooks(n_codebooks)
        with full_precision(x):
            return self._encode_parts(x, mask, labels, used, options)

    def _encode_parts(self, x, mask, labels, n_codebooks, options) -> Tensor:
        """Encode recursively in halves, so that memory is bounded for many frames."""
        lead = x.shape[:-1]
        if tracing() or lead.numel() <= tile_rows(x, self.dim):
            frames, _ = self._frames(x, mask, labels, False, n_codebooks)
            codes = self._search(frames, **options)
            if not frames.all_valid:
                codes = torch.where(frames.valid[:, None], codes, -1)
            return codes.reshape(*lead, codes.shape[-1])
        axis = lead.index(max(lead))
        each_labels = _halves(labels, 0) if axis == 0 else (labels, labels)
        parts = zip(_halves(x, axis), _halves(mask, axis), each_labels, strict=True)
        return torch.cat(
            [self._encode_parts(*part, n_codebooks, options) for part in parts], axis
        )

    def _frames(
        self, x, mask, labels, shared: bool, n_codebooks: int | None = None
    ) -> tuple[Frames, Tensor]:
        """Return the frames, and a mask (N,) of non-finite ones outside padding."""
        if self.num_classes is not None and labels is not None:
            unknown = (labels < 0) | (labels >= self.num_classes)
            labels = labels.masked_fill(unknown, 0)
            # Raising would synchronize the device, so the utterance becomes NaN.
            lead = (-1,) + (1,) * (x.dim() - 1)
            x = torch.where(unknown.view(lead), torch.nan, x)
        frames = flat_frames(x, mask, labels, shared)
        frames = frames._replace(
            n_codebooks=n_codebooks, n_utterances=x.shape[0] if x.dim() > 1 else 1
        )
        bad = ~frames.valid
        return frames, bad if mask is None else bad & mask.reshape(-1)

    def _loss(self, result: Quantized, bad: Tensor) -> tuple[Tensor, Quantized]:
        # Zero, connected to the graph even if no loss term is.
        loss = result.value[:1].sum() * 0
        # A product, not a sum, so that gradients become NaN too: gradient scalers
        # detect them.
        factor = torch.ones_like(loss).masked_fill(bad.any(), torch.nan)
        loss = loss * factor
        terms = {name: term * factor for name, term in result.terms.items()}
        for name, term in terms.items():
            loss = loss + self.loss_weights[name] * term
        if self.training and torch.is_grad_enabled() and world_size() > 1:
            # DDP waits for the gradients of all parameters, including those of unused
            # codebooks.
            loss = keep_in_graph(
                loss, [p for p in self.parameters() if p.requires_grad]
            )
        return loss.float(), result._replace(terms=terms)

    @torch.no_grad()
    def _usage(self, frames: Frames, result: Quantized) -> dict[str, Tensor]:
        counts = result.counts
        if counts is None and self.codebook_size > _MAX_COUNTED:
            perplexity, used = usage_of_codes(result.codes, frames.valid)
            return {"perplexity": perplexity, "used_codes": used}
        if counts is None:
            weight = frames.weight[:, None] * (result.codes >= 0)
            codes = result.codes.clamp(min=0)
            counts = frames.total(code_counts(codes, weight, self.codebook_size))
        perplexity, used = usage_of_counts(counts)
        return {"perplexity": perplexity, "used_codes": used}

    def _number_of_codebooks(self, n_codebooks: int | None) -> int:
        if n_codebooks is None:
            return self.n_codebooks
        number = positive_int("n_codebooks", n_codebooks)
        if number > self.n_codebooks:
            raise ConfigError(
                f"n_codebooks must be at most {self.n_codebooks}, got {n_codebooks}"
            )
        return number

    def _check_input(self, x, mask, labels) -> None:
        name = type(self).__name__
        self._check_placement(x=x, mask=mask, labels=labels)
        check_input(name, self.dim, x, mask)
        if labels is not None:
            check_labels(name, self.num_classes, x, labels)

    def _check_placement(self, **tensors) -> None:
        if not tracing():
            check_placement(type(self).__name__, self._device(), **tensors)

    def _device(self) -> torch.device | None:
        """Return the device of the module, None if it has no tensors."""
        mine = next(chain(self.parameters(), self.buffers()), None)
        return None if mine is None else mine.device


def _halves(x: Tensor | None, axis: int) -> tuple[Tensor | None, ...]:
    return (None, None) if x is None else x.tensor_split(2, axis)
