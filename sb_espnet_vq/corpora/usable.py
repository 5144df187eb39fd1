"""Detection of audio that is readable but unusable for training.

Float files are read completely, since NaN, infinite or extremely large samples may be
anywhere in them. Other formats cannot contain such samples and are read up to the first
block with a nonzero sample. `inspect_audio` has already rejected unreadable files.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sb_espnet_vq.corpora.audio import AudioInfo
from sb_espnet_vq.corpora.manifest import Utterance
from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.utils.files import write_text

logger = logging.getLogger(__name__)

SHORTEST = 0.01  # seconds, less than a frame
RATES = (1000, 768_000)  # Hz
# Full scale of 32-bit integers. Squares of much larger samples overflow.
LOUDEST = 2.0**31
# Largest number of coefficients of the resampling filter, 256 MiB.
MOST_COEFFICIENTS = 2**26
# Block sizes in frames; integer formats usually need only one block.
BLOCK, FLOAT_BLOCK = 2048, 65536
SHOWN = 10


def usable(
    utterances: Sequence[Utterance], sample_rate: int
) -> tuple[list[Utterance], list[str]]:
    """Separate usable recordings from unusable ones.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        With readable files.
    sample_rate : int
        The rate at which the recipe reads audio, in Hz.

    Returns
    -------
    usable : list[Utterance]
        The usable ones, in the given order.
    problems : list[str]
        One line for each unusable recording: file and reason.
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
    """Return why a recording cannot be used for training.

    Arguments
    ---------
    path : str | Path
        A readable file.
    info : AudioInfo
        Result of `inspect_audio`.
    sample_rate : int
        The rate at which it will be read, in Hz.

    Returns
    -------
    str | None
        None if it can be used.
    """
    rate = info.sample_rate
    if not RATES[0] <= rate <= RATES[1]:
        return f"a sample rate of {rate} Hz, outside {RATES[0]} to {RATES[1]} Hz"
    common = math.gcd(rate, sample_rate)
    if (rate // common) * (sample_rate // common) > MOST_COEFFICIENTS:
        return f"resampling from {rate} to {sample_rate} Hz needs too large a filter"
    if info.duration < SHORTEST:
        return f"{1000 * info.duration:.3g} ms of audio, at least 10 ms are needed"
    return _why_unusable_samples(path)


def report_skipped(problems: Sequence[str], total: int, listed_in: str | Path) -> None:
    """Warn once about skipped recordings, and list all of them in a file.

    Arguments
    ---------
    problems : Sequence[str]
        A line for each skipped file.
    total : int
        Number of all files, including these.
    listed_in : str | Path
        File for all lines; deleted if there are none.

    Raises
    ------
    CorpusError
        If all files were skipped.
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
                # Downmixed as in training: opposite channels cancel to silence.
                mono = block.mean(1)
                loudest = float(numpy.abs(mono).max(initial=0.0))
                if not math.isfinite(loudest):
                    return "it has samples that are NaN or infinite"
                if loudest > LOUDEST:
                    return f"it has samples of {loudest:.3g}, but full scale is 1"
                silent = silent and loudest == 0
                if not silent and not everything:
                    return None
    except (OSError, RuntimeError) as error:
        return f"not readable as audio ({error})"
    return "silence: all samples are 0" if silent else None


def _progress(
    utterances: Sequence[Utterance], clock: Callable[[], float] = time.monotonic
) -> Iterator[Utterance]:
    """Iterate, and log progress every 10 seconds."""
    last = clock()
    for number, item in enumerate(utterances):
        if clock() - last > 10:
            last = clock()
            logger.info("checked %d of %d audio files", number, len(utterances))
        yield item


def _printable(text: str) -> str:
    """Escape line breaks and undecodable bytes in file names."""
    return text if text.isprintable() else repr(text)[1:-1]
