"""What quantizers made of other quantizers have in common."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import Quantized, Quantizer
from sb_espnet_vq.quantizers.dropout import kept_codebooks
from sb_espnet_vq.quantizers.options import true_or_false
from sb_espnet_vq.registry import build
from sb_espnet_vq.toolkit_words import translate


def build_part(
    quantizer: str, words: Mapping[str, Any], conf: Mapping[str, Any] | None
) -> Quantizer:
    """Build one of the parts.

    Arguments
    ---------
    quantizer : str
        A registered name, or the full path of a class.
    words : Mapping
        Options that the part gets if it has them; those that are None are omitted.
    conf : Mapping, optional
        Options that the user gives; they override ``words``.

    Returns
    -------
    Quantizer

    Raises
    ------
    ConfigError
        If the name or an option is unknown or out of range.
    """
    given = {name: value for name, value in words.items() if value is not None}
    return build(quantizer, **translate(quantizer, given, conf))


class Composed(Quantizer):
    """Base of quantizers whose codebooks are those of their parts.

    The parts work on flat frames, so that checks, masks, precision, statistics and
    synchronization are done once, here. Terms of the loss keep their names and are
    averaged over the codebooks of the parts that have them. If parts weigh a term
    differently, the largest weight counts and the term of a part with a smaller one is
    reduced accordingly.

    Arguments
    ---------
    dim : int
        Width of the frames.
    parts : sequence of Quantizer
        The parts.
    columns : sequence of sequence of int
        For each part, the place of each of its codebooks among all, in rising order.
    quantizer_dropout : bool
        In training, keep for each utterance only a random number of the codebooks. A
        part whose codebooks cannot be dropped one by one is dropped as a whole.

    Raises
    ------
    ConfigError
        If parts disagree on the number of classes.
    """

    def __init__(
        self,
        dim: int,
        parts: Sequence[Quantizer],
        columns: Sequence[Sequence[int]],
        quantizer_dropout: bool = False,
    ):
        sizes = {
            column: size
            for part, places in zip(parts, columns, strict=True)
            for column, size in zip(places, part.codebook_sizes, strict=True)
        }
        super().__init__(dim, max(sizes.values()), len(sizes))
        self._sizes = tuple(sizes[column] for column in range(len(sizes)))
        self.columns = [tuple(places) for places in columns]
        self.parts = nn.ModuleList(parts)
        dropout = true_or_false("quantizer_dropout", quantizer_dropout)
        self.quantizer_dropout = dropout
        self.draws_codes = dropout or any(part.draws_codes for part in parts)
        self.adds_noise = any(part.adds_noise for part in parts)
        self.has_table = any(part.has_table for part in parts)
        self.gives_probabilities = all(part.gives_probabilities for part in parts)
        self.num_classes = _common_classes(parts)
        self.loss_weights = {}
        for part in parts:
            for name, weight in part.loss_weights.items():
                known = self.loss_weights.get(name, 0.0)
                self.loss_weights[name] = max(known, weight)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each codebook."""
        return self._sizes

    @property
    def sampling_temperature(self) -> Tensor | float:
        """Temperature of the first part that samples; 0 if none does."""
        sampling = [part for part in self._parts() if part.draws_codes]
        return sampling[0].sampling_temperature if sampling else 0.0

    @torch.no_grad()
    def codebook_vectors(self) -> Tensor:
        """Return what each code adds to ``decode``, as `Quantizer.codebook_vectors`.

        Returns
        -------
        torch.Tensor
            (n_codebooks, codebook_size, dim).

        Raises
        ------
        ConfigError
            If a part has none.
        """
        for part in self._parts():
            part.codebook_vectors()
        return super().codebook_vectors()

    def freeze_if(self, frozen: bool) -> None:
        """Freeze the module, or report that nothing in it learns.

        Arguments
        ---------
        frozen : bool
            The option of that name.
        """
        if true_or_false("frozen", frozen):
            self.requires_grad_(False)
            return
        learns = any(parameter.requires_grad for parameter in self.parameters())
        self.frozen = not learns and all(part.frozen for part in self._parts())

    def _parts(self) -> list[Quantizer]:
        return [cast(Quantizer, part) for part in self.parts]

    def _with_kept(self, frames: Frames) -> Frames:
        """Return the frames with the codebooks that training keeps, if it drops any."""
        used = frames.n_codebooks or self.n_codebooks
        drop = self.training and self.quantizer_dropout
        return frames._replace(
            n_codebooks=used, kept=kept_codebooks(frames, used, drop)
        )

    def _frames_of(self, frames: Frames, number: int, x: Tensor) -> Frames | None:
        """Return the input of a part; None if none of its codebooks is in use."""
        used = frames.n_codebooks or self.n_codebooks
        places = [column for column in self.columns[number] if column < used]
        if not places:
            return None
        kept = frames.kept
        if kept is not None:
            kept = torch.stack([kept[:, column] for column in places], 1)
        return frames._replace(x=x, n_codebooks=len(places), kept=kept)

    def _codes_of(self, codes: Tensor, number: int) -> Tensor | None:
        """Return the codes of a part; None if it has none of the columns."""
        places = [c for c in self.columns[number] if c < codes.shape[1]]
        return torch.stack([codes[:, c] for c in places], 1) if places else None

    def _in_order(self, tensors: Mapping[int, Tensor], dim: int) -> Tensor:
        """Arrange what parts return for their codebooks in the order of all."""
        placed = {}
        for number, tensor in tensors.items():
            for place, each in zip(self.columns[number], tensor.unbind(dim)):  # noqa: B905
                placed[place] = each
        return torch.stack([placed[place] for place in sorted(placed)], dim)

    def _joined(self, value: Tensor, results: Mapping[int, Quantized]) -> Quantized:
        """Return the result for all codebooks, given those of the parts by number."""
        codes = {number: each.codes for number, each in results.items()}
        kept = {n: each.kept for n, each in results.items() if each.kept is not None}
        if kept:
            for number, each in results.items():
                everything = torch.ones_like(each.codes, dtype=torch.bool)
                kept.setdefault(number, everything)
        return Quantized(
            value,
            self._in_order(codes, 1),
            self._terms(results),
            self._stacked({n: each.counts for n, each in results.items()}),
            self._stacked({n: each.usage for n, each in results.items()}),
            self._in_order(kept, 1) if kept else None,
        )

    def _stacked(self, tables: dict[int, Tensor | None]) -> Tensor | None:
        """Join tables (K, V) with a row for each codebook; None if one is missing."""
        padded = {}
        for number, table in tables.items():
            if table is None:
                return None
            padded[number] = F.pad(table, (0, self.codebook_size - table.shape[1]))
        return self._in_order(padded, 0)

    def _terms(self, results: Mapping[int, Quantized]) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        parts = self._parts()
        for number, result in results.items():
            used = result.codes.shape[1]
            for name, term in result.terms.items():
                largest = self.loss_weights[name]
                mine = parts[number].loss_weights[name]
                share = used * (mine / largest if largest > 0 else 1.0)
                added = term * share
                sums[name] = sums[name] + added if name in sums else added
                counts[name] = counts.get(name, 0) + used
        return {name: total / counts[name] for name, total in sums.items()}

    def _set_step(self, step: int) -> None:
        for part in self._parts():
            part.set_step(step)

    def _hold(self, entries: Tensor | None) -> None:
        held = 0
        for part, places in zip(self._parts(), self.columns, strict=True):
            mine = entries
            if entries is not None:
                rows = [entries[place, : part.codebook_size] for place in places]
                mine = torch.stack(rows)
            try:
                part.hold(mine)
                held += 1
            except ConfigError:
                # No vectors that learn: they are held anyway.
                continue
        if not held:
            super()._hold(entries)


def run_part(part: Quantizer, frames: Frames) -> Quantized:
    """Quantize with one part, without the codebooks that ``frames.kept`` leaves out.

    Arguments
    ---------
    part : Quantizer
        The part.
    frames : Frames
        Its input.

    Returns
    -------
    Quantized
        ``kept`` says which codebooks the value includes.
    """
    result = part._quantize(frames)
    if frames.kept is None or result.kept is not None:
        return result
    # The part has one codebook, or cannot drop them one by one.
    first = frames.kept[:, :1]
    return result._replace(
        value=result.value * first, kept=first.expand(result.codes.shape)
    )


def _common_classes(parts: Sequence[Quantizer]) -> int | None:
    numbers = {part.num_classes for part in parts} - {None}
    if len(numbers) > 1:
        raise ConfigError(
            f"the parts have {' and '.join(map(str, sorted(numbers, key=str)))} "
            "classes; give them the same num_classes in their options"
        )
    return numbers.pop() if numbers else None
