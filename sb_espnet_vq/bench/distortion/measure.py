"""Training and measurement of one quantizer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.bench.distortion.data import N_MELS, Speech, draw_batches
from sb_espnet_vq.bench.distortion.model import Model, Sizes
from sb_espnet_vq.bench.distortion.named import make_model

# Timed encodings, of which the fastest counts.
_REPEATS = 3
# Training frames on which the use of codes is counted.
_COUNTED = 30_000
_NEWS = 100


@dataclass(frozen=True)
class Measured:
    """What a quantizer achieves with a beam.

    Arguments
    ---------
    name : str
        With its options.
    seed : int
        Of initialization and order of the frames.
    beam : int
        Chains that the search kept; 1 for the usual search.
    bits : float
        Bits per frame.
    snr : float
        Variance of the held-out frames over the mean squared error (dB), both summed
        over bands.
    used : float
        Share of the codes that held-out frames use at least once.
    used_in_training : float
        The same of up to 30,000 training frames.
    microseconds : float
        Time to encode a frame.
    training_seconds : float
        Time of training.
    """

    name: str
    seed: int
    beam: int
    bits: float
    snr: float
    used: float
    used_in_training: float
    microseconds: float
    training_seconds: float


@dataclass(frozen=True)
class Training:
    """Sizes of codebooks, and how they are trained.

    Arguments
    ---------
    codebook_size, n_codebooks : int
        Of quantizers without options that override them.
    batches, batch_frames : int
        Number of batches, and frames in each.
    lr : float
        Learning rate of quantizers that learn by gradient.
    refit_rounds : int
        Rounds of a least-squares refit, measured in addition; 0 for none.
    """

    codebook_size: int = 256
    n_codebooks: int = 8
    batches: int = 600
    batch_frames: int = 4096
    lr: float = 1e-3
    refit_rounds: int = 0

    @property
    def sizes(self) -> Sizes:
        """Sizes of a model of log-mel frames."""
        return Sizes(N_MELS, self.codebook_size, self.n_codebooks)


def measure(
    named: tuple[str, str, dict[str, Any]],
    speech: Speech,
    training: Training,
    beams: Sequence[int],
    seed: int,
    log: Callable[[str], None],
) -> list[Measured]:
    """Train a quantizer and measure it with each beam that it takes.

    Arguments
    ---------
    named : tuple
        Text for the table, name and options.
    speech : Speech
        The frames.
    training : Training
        Sizes and schedule.
    beams : sequence of int
        1 is measured in any case.
    seed : int
        Of initialization and order of the frames.
    log : callable
        Called with lines of progress.

    Returns
    -------
    list of Measured
        One for each beam, the usual search first, then those of refitted codebooks.
    """
    text, name, options = named
    torch.manual_seed(seed)
    model = make_model(name, options, training.sizes, training.lr)
    batches = draw_batches(speech.train, training.batches, training.batch_frames, seed)
    start = time.perf_counter()
    model.train(_with_progress(batches, training.batches, f"{text}, seed {seed}", log))
    seconds = time.perf_counter() - start
    measured = []

    def add(row: str, of: Model, beam: int) -> None:
        numbers = _score(of, speech, beam)
        measured.append(Measured(row, seed, beam, training_seconds=seconds, **numbers))
        log(f"{row}, seed {seed}, beam {beam}: {measured[-1].snr:.2f} dB")

    beams = sorted({1, *(beams if model.takes_beam else ())})
    for beam in beams:
        add(text, model, beam)
    for beam in beams if training.refit_rounds else ():
        refitted = model.refitted(speech.train, training.refit_rounds, beam)
        if refitted is not None:
            add(f"{text}, refitted", refitted, beam)
    return measured


def _score(model: Model, speech: Speech, beam: int) -> dict[str, float]:
    x = speech.test
    took = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        codes = model.encode(x, beam)
        took.append(time.perf_counter() - start)
    some = speech.train[:: -(-len(speech.train) // _COUNTED)]
    return {
        "bits": sum(math.log2(size) for size in model.sizes),
        "snr": snr(x, model.decode(codes)),
        "used": share_used(codes, model.sizes),
        "used_in_training": share_used(model.encode(some, beam), model.sizes),
        "microseconds": min(took) / len(x) * 1e6,
    }


def snr(x: Tensor, value: Tensor) -> float:
    """Return variance over mean squared error in dB, both summed over dimensions.

    Example
    -------
    >>> snr(torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.5], [-0.5]]))
    6.0206
    """
    x, value = x.double(), value.double()
    variance = (x - x.mean(0)).square().sum()
    return round(float(10 * (variance / (x - value).square().sum()).log10()), 6)


def share_used(codes: Tensor, sizes: Sequence[int]) -> float:
    """Return the share of codes used at least once, mean over codebooks.

    Example
    -------
    >>> share_used(torch.tensor([[0, 1], [1, 1]]), (2, 2))
    0.75
    """
    shares = [
        len(column.unique()) / size for column, size in zip(codes.T, sizes, strict=True)
    ]
    return sum(shares) / len(shares)


def _with_progress(
    batches: Iterator[Tensor], count: int, text: str, log: Callable[[str], None]
) -> Iterator[Tensor]:
    for number, batch in enumerate(batches, start=1):
        yield batch
        if number % _NEWS == 0 or number == count:
            log(f"{text}: batch {number} of {count}")
