"""Leaving out audio that can be read and that nothing can be learnt from.

Only a float format can hold NaN, infinity or huge numbers, and may hold them anywhere:
such files are read whole. Of the others, one block is read, or more up to the first
sample that is not 0. `inspect_audio` has found before what cannot be read at all.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sb_espnet_vq.corpora.audio import AudioInfo
from sb_espnet_vq.corpora.files import CorpusError, write_text
from sb_espnet_vq.corpora.manifest import Utterance

logger = logging.getLogger(__name__)

SHORTEST = 0.01  # seconds, less than a frame
RATES = (1000, 768_000)  # Hz
# The largest number of an integer format. Squares of much larger ones overflow.
LOUDEST = 2.0**31
# Coefficients of the filter that resamples, 256 MiB.
MOST_COEFFICIENTS = 2**26
# Frames read at a time: where one is enough it should be small.
BLOCK, FLOAT_BLOCK = 2048, 65536
SHOWN = 10


def usable(
    utterances: Sequence[Utterance], sample_rate: int
) -> tuple[list[Utterance], list[str]]:
    """Sort out what cannot be trained on.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        Their files can be read.
    sample_rate : int
        The rate the recipe reads audio at, in Hz.

    Returns
    -------
    usable : list[Utterance]
        The others, in the order given.
    problems : list[str]
        A line for each that is left out, with its file and the reason.
    """
    kept: list[Utterance] = []
    problems: list[str] = []
    for item in _progress(utterances):
        reason = why_unusable(item.wav, item.info, sample_rate)
        if reason is None:
            kept.append(item)
        else:
            problems.append(f"{item.wav}: {reason}")
    return kept, problems


def why_unusable(path: str | Path, info: AudioInfo, sample_rate: int) -> str | None:
    """Say why a recording cannot be trained on.

    Arguments
    ---------
    path : str | Path
        A file that `inspect_audio` has found to be whole.
    info : AudioInfo
        From there.
    sample_rate : int
        The rate it will be read at, in Hz.

    Returns
    -------
    str | None
        None if it can be trained on.
    """
    rate = info.sample_rate
    if not RATES[0] <= rate <= RATES[1]:
        return f"a sample rate of {rate} Hz, not of {RATES[0]} to {RATES[1]}"
    common = math.gcd(rate, sample_rate)
    if (rate // common) * (sample_rate // common) > MOST_COEFFICIENTS:
        return f"{rate} Hz have too little in common with {sample_rate} to resample"
    if info.duration < SHORTEST:
        return f"{1000 * info.duration:.3g} ms of audio, at least 10 ms are needed"
    return _why_unusable_samples(path)


def leave_out(problems: Sequence[str], total: int, listed_in: str | Path) -> None:
    """Say once what is left out of a corpus, and list all of it in a file.

    Arguments
    ---------
    problems : Sequence[str]
        A line for each file.
    total : int
        How many files there are, these included.
    listed_in : str | Path
        Gets all lines; is removed where there are none.

    Raises
    ------
    CorpusError
        Nothing is left.
    """
    lines = [_printable(problem) for problem in problems]
    if len(lines) == total and lines:
        raise CorpusError(
            f"none of the {total} files can be used; the first: {lines[0]}"
        )
    if not lines:
        Path(listed_in).unlink(missing_ok=True)
        return
    write_text(listed_in, "".join(f"{line}\n" for line in lines))
    more = f"\n  ... all are listed in {listed_in}" if len(lines) > SHOWN else ""
    logger.warning(
        "%d of %d files cannot be used and are left out:\n  %s%s",
        *(len(lines), total, "\n  ".join(lines[:SHOWN]), more),
    )


def _why_unusable_samples(path: str | Path) -> str | None:
    import numpy
    import soundfile

    silent = True
    try:
        with soundfile.SoundFile(path) as sound:
            everything = sound.subtype in ("FLOAT", "DOUBLE")
            size = FLOAT_BLOCK if everything else BLOCK
            for block in sound.blocks(size, dtype="float32", always_2d=True):
                # As it will be read: what cancels out between channels is silence.
                mono = block.mean(1)
                loudest = float(numpy.abs(mono).max(initial=0.0))
                if not math.isfinite(loudest):
                    return "it has samples that are NaN or infinite"
                if loudest > LOUDEST:
                    return f"it has samples of {loudest:.3g}, where 1 is full scale"
                silent = silent and loudest == 0
                if not silent and not everything:
                    return None
    except (OSError, RuntimeError) as error:
        return f"not readable as audio ({error})"
    return "silence: all samples are 0" if silent else None


def _progress(
    utterances: Sequence[Utterance], clock: Callable[[], float] = time.monotonic
) -> Iterator[Utterance]:
    """Go through files, and say every 10 seconds how far it is."""
    said = clock()
    for number, item in enumerate(utterances):
        if clock() - said > 10:
            said = clock()
            logger.info("checked %d of %d audio files", number, len(utterances))
        yield item


def _printable(text: str) -> str:
    """A name may hold line breaks, or bytes that are no text."""
    return text if text.isprintable() else repr(text)[1:-1]
