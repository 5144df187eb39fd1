"""Frames of features: of an encoder, log-mel, .npy files or Kaldi archives."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sb_espnet_vq.corpora.audio import AUDIO_EXTENSIONS, read_audio
from sb_espnet_vq.errors import ConfigError, CorpusError
from sb_espnet_vq.tokenizer.audio_tokenizer import AudioTokenizer
from sb_espnet_vq.tokenizer.utterances import find_files

SAMPLE_RATE, N_MELS = 16_000, 80
_WINDOW, _HOP, _FLOOR = 400, 160, 1e-5
# What kaldiio raises for a broken matrix.
_BROKEN = (AssertionError, EOFError, OSError, TypeError, ValueError, struct.error)
# Reads the frames (T, D) of an utterance.
Reader = Callable[[], Tensor]


def find_features(
    paths: Sequence[str | Path], encode: Callable[[Path], Tensor]
) -> dict[str, Reader]:
    """Return functions that read the frames of each utterance, by key.

    Arguments
    ---------
    paths : sequence of str or Path
        Audio files, .npy files of (T, D) floats and Kaldi .scp files, and folders that
        are searched for them.
    encode : callable
        Returns the frames (T, D) of an audio file.

    Returns
    -------
    dict
        Sorted by key. The functions raise CorpusError if an utterance cannot be read or
        is not finite.

    Raises
    ------
    ConfigError
        If there is no such file, two have the same key, or an index has a command.
    """
    found: dict[str, Reader] = {}
    for key, file in find_files(paths, (*AUDIO_EXTENSIONS, ".npy", ".scp")).items():
        read = _read_npy if file.suffix == ".npy" else encode
        more: dict[str, Reader] = {key: functools.partial(read, file)}
        if file.suffix == ".scp":
            more = _of_index(file)
        if found.keys() & more.keys():
            raise ConfigError(f"{file}: {min(found.keys() & more.keys())} occurs twice")
        found |= more
    return {
        key: functools.partial(_checked, read, key)
        for key, read in sorted(found.items())
    }


def encoder_features(tokenizer: AudioTokenizer, file: Path) -> Tensor:
    """Return the output (T, D) of a model's encoder for an audio file."""
    signal = read_audio(file, tokenizer.sample_rate)
    return tokenizer.features(signal[None])[0][0].cpu()


def log_mel(file: Path) -> Tensor:
    """Return log-mel frames (T, 80) of audio at 16 kHz, one in 10 ms."""
    signal = read_audio(file, SAMPLE_RATE)
    # The spectrogram reflects half a window at each end, so shorter audio has no frame.
    if len(signal) <= _WINDOW // 2:
        return torch.zeros(0, N_MELS)
    return _mel()(signal).clamp(min=_FLOOR).log().T


def split(
    readers: Mapping[str, Reader], seed: int
) -> tuple[list[Reader], list[Reader]]:
    """Return the utterances to fit and those to hold out, a twentieth.

    A single utterance is in both.
    """
    every = list(readers.values())
    order = torch.randperm(len(every), generator=_generator(seed)).tolist()
    held_out = order[: -(-len(every) // 20)]
    rest = order[len(held_out) :] or held_out
    return [every[n] for n in rest], [every[n] for n in held_out]


def refuse_widths(readers: Sequence[Reader], width: int) -> None:
    """Raise CorpusError unless all frames can be read and have this width."""
    for read in readers:
        _refuse_width(read(), width)


def shuffled_pools(readers: Sequence[Reader], size: int, seed: int) -> Iterator[Tensor]:
    """Yield the frames of utterances in random order, in shuffled pools.

    Arguments
    ---------
    readers : sequence of callable
    size : int
        Frames in memory, besides those of an utterance.
    seed : int

    Yields
    ------
    torch.Tensor
        (size, D); the last may have fewer frames.

    Raises
    ------
    CorpusError
        If an utterance cannot be read, or the widths differ.
    """
    draw = _generator(seed)
    pool: list[Tensor] = []
    count = 0
    for n in torch.randperm(len(readers), generator=draw).tolist():
        frames = readers[n]()
        if pool:
            _refuse_width(frames, pool[0].shape[1])
        pool.append(frames)
        count += len(frames)
        if count >= size:
            frames = torch.cat(pool)
            frames = frames[torch.randperm(count, generator=draw)]
            yield from frames[: count // size * size].split(size)
            pool = [frames[count // size * size :].clone()]
            count = len(pool[0])
    if count:
        frames = torch.cat(pool)
        yield frames[torch.randperm(count, generator=draw)]


def _refuse_width(frames: Tensor, width: int) -> None:
    if frames.shape[1] != width:
        raise CorpusError(
            f"features of widths {width} and {frames.shape[1]}: all must be of one "
            "encoder"
        )


def _checked(read: Reader, key: str) -> Tensor:
    frames = read()
    if frames.dim() != 2 or not frames.is_floating_point():
        raise CorpusError(
            f"{key}: features must be (T, D) floats, got {tuple(frames.shape)} "
            f"{frames.dtype}"
        )
    if not bool(frames.isfinite().all()):
        raise CorpusError(f"{key}: it has features that are NaN or infinite")
    return frames.float()


def _read_npy(file: Path) -> Tensor:
    import numpy

    try:
        return torch.from_numpy(numpy.load(file, allow_pickle=False))
    except (EOFError, OSError, TypeError, ValueError) as error:
        raise CorpusError(f"{file}: no array that can be read ({error})") from error


def _of_index(scp: Path) -> dict[str, Reader]:
    found: dict[str, Reader] = {}
    for line in scp.read_text(encoding="utf-8").splitlines():
        key, _, place = line.partition(" ")
        archive, _, offset = place.strip().rpartition(":")
        # Kaldi also allows commands, which are not run here.
        if not archive or "|" in archive or not offset.isdecimal():
            raise ConfigError(
                f"{scp}: {line!r} does not name a place in an archive (KEY FILE:OFFSET)"
            )
        found[key] = functools.partial(_read_archive, archive, int(offset))
    return found


def _read_archive(archive: str, offset: int) -> Tensor:
    try:
        from kaldiio.matio import read_kaldi
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Kaldi archives need kaldiio, which is not installed: "
            "pip install 'sb_espnet_vq[formats]'"
        ) from error
    try:
        with open(archive, "rb") as file:
            file.seek(offset)
            # kaldiio unpickles other entries.
            if file.read(2) != b"\0B":
                raise ValueError("not a binary matrix")
            file.seek(offset)
            return torch.tensor(read_kaldi(file))
    except _BROKEN as error:
        raise CorpusError(
            f"{archive}:{offset}: no matrix that can be read ({error})"
        ) from error


@functools.cache
def _mel():
    from torchaudio.transforms import MelSpectrogram

    sizes = {"n_fft": _WINDOW, "hop_length": _HOP, "n_mels": N_MELS}
    return MelSpectrogram(SAMPLE_RATE, **sizes)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
