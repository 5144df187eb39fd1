"""Reading of audio files as mono signals at a given sample rate."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import torch

from sb_espnet_vq.errors import CorpusError

AUDIO_EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au", ".opus")
# Formats that libsndfile cannot read; such files are reported, not ignored.
OTHER_EXTENSIONS = (".m4a", ".aac", ".mp4", ".wma", ".webm", ".amr", ".ape", ".mka")


class AudioInfo(NamedTuple):
    """Duration (s), sample rate (Hz) and channels of an audio file."""

    duration: float
    sample_rate: int
    channels: int


def inspect_audio(path: str | Path) -> AudioInfo:
    """Check that `path` is readable audio and return its duration and format.

    The header and the last samples are read: a truncated file has a valid header, but
    would fail during training.

    Arguments
    ---------
    path : str | Path
        An audio file in any format that libsndfile supports.

    Returns
    -------
    AudioInfo

    Raises
    ------
    CorpusError
        If the file is missing, empty, not audio, truncated or without samples.
    """
    import soundfile

    path = Path(path)
    _check_file(path)
    try:
        with soundfile.SoundFile(path) as sound:
            frames, rate, channels = sound.frames, sound.samplerate, sound.channels
            tail = min(frames, 1024)
            sound.seek(frames - tail)
            complete = len(sound.read(tail)) == tail
    except (OSError, RuntimeError) as error:
        raise CorpusError(f"{path}: not readable as audio ({error})") from error
    if frames == 0:
        raise CorpusError(f"{path}: audio without samples")
    if not complete:
        raise CorpusError(
            f"{path}: truncated audio, shorter than the {frames} samples in its header"
        )
    return AudioInfo(frames / rate, rate, channels)


def read_audio(path: str | Path, sample_rate: int) -> torch.Tensor:
    """Read a file as a mono signal at `sample_rate`.

    Channels are averaged; other sample rates are resampled (windowed sinc).

    Arguments
    ---------
    path : str | Path
        An audio file in any format that libsndfile supports.
    sample_rate : int
        Rate of the result, in Hz.

    Returns
    -------
    torch.Tensor
        (samples,) float32; full scale is [-1, 1].

    Raises
    ------
    CorpusError
        If the file is missing, empty, not audio or without samples.
    """
    import soundfile

    path = Path(path)
    try:
        data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        _check_file(path)
        raise CorpusError(f"{path}: not readable as audio ({error})") from error
    if len(data) == 0:
        raise CorpusError(f"{path}: audio without samples")
    signal = torch.from_numpy(data).mean(1)
    return signal if rate == sample_rate else _resampler(rate, sample_rate)(signal)


def conversion_notes(infos: list[AudioInfo], sample_rate: int) -> list[str]:
    """Describe what `read_audio` will convert, for a whole corpus.

    Arguments
    ---------
    infos : list[AudioInfo]
        One per file.
    sample_rate : int
        The rate at which the files will be read, in Hz.

    Returns
    -------
    list[str]
        One sentence per kind of conversion; empty if nothing is converted.

    Example
    -------
    >>> conversion_notes([AudioInfo(1.0, 8000, 2), AudioInfo(1.0, 16000, 1)], 16000)
    ['1 of 2 files have 8000 Hz: resampled to 16000 Hz when read', \
'1 of 2 files have several channels: averaged to mono when read']
    """
    total = len(infos)
    notes = []
    for rate in sorted({info.sample_rate for info in infos} - {sample_rate}):
        count = sum(info.sample_rate == rate for info in infos)
        notes.append(
            f"{count} of {total} files have {rate} Hz: "
            f"resampled to {sample_rate} Hz when read"
        )
    several = sum(info.channels > 1 for info in infos)
    if several:
        notes.append(
            f"{several} of {total} files have several channels: "
            "averaged to mono when read"
        )
    return notes


def resample(signal: torch.Tensor, source: int, target: int) -> torch.Tensor:
    """Resample a signal from `source` Hz to `target` Hz.

    Arguments
    ---------
    signal : torch.Tensor
        (..., samples) float32.
    source : int
        Sample rate of the signal, in Hz.
    target : int
        Sample rate of the result, in Hz.

    Returns
    -------
    torch.Tensor
        (..., samples * target / source, rounded up) float32.
    """
    return signal if source == target else _resampler(source, target)(signal)


@functools.lru_cache(maxsize=16)
def _resampler(source: int, target: int):
    # Cached, since computing the kernel takes longer than one use of it.
    from torchaudio.transforms import Resample

    return Resample(source, target)


def _check_file(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise CorpusError(
            f"{path}: the name is not UTF-8, and cannot be listed in a manifest"
        ) from None
    if not path.exists():
        raise CorpusError(f"{path}: no such file")
    if not path.is_file():
        raise CorpusError(f"{path}: not a file")
    if path.stat().st_size == 0:
        raise CorpusError(f"{path}: empty file (0 bytes)")
