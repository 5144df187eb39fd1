"""Log-mel frames of recordings, of speakers for training and of other speakers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sb_espnet_vq.corpora.audio import read_audio
from sb_espnet_vq.corpora.manifest import Utterance, read_manifest, scan_folder
from sb_espnet_vq.errors import CorpusError

#: Frames: 80 bands up to 8 kHz, windows of 25 ms every 10 ms.
N_MELS, SAMPLE_RATE, FRAME_RATE = 80, 16_000, 100
_WINDOW, _FFT = 400, 1024
# Power of a band below which there is only rounding of 16-bit samples.
_FLOOR = 1e-5
# Share of the speakers to hold out.
_HELD_OUT = 0.2


class Speech(NamedTuple):
    """Frames in which each band has mean 0 and variance 1 over the training frames.

    Arguments
    ---------
    train, test : torch.Tensor
        (N, 80) float32. A fifth of the speakers is in test only; where speakers are
        unknown, a fifth of the recordings.
    about : dict
        Numbers of recordings, speakers and minutes of each.
    """

    train: Tensor
    test: Tensor
    about: dict[str, dict[str, float]]


def read_speech(
    data_folder: str | Path | None,
    manifest: str | Path | None,
    log: Callable[[str], None],
) -> Speech:
    """Read recordings, hold out a fifth of the speakers, and compute log-mel frames.

    Arguments
    ---------
    data_folder : str or Path, optional
        A folder of audio; with a manifest the value of ``$data_root``.
    manifest : str or Path, optional
        A CSV file that lists audio and, if known, speakers.
    log : callable
        Called with lines of progress.

    Returns
    -------
    Speech

    Raises
    ------
    CorpusError
        If there is no audio, or too little to divide.
    """
    if manifest is not None:
        utterances = read_manifest(manifest, data_folder)
    else:
        utterances, problems = scan_folder(data_folder or ".")
        for problem in problems:
            log(f"skipped: {problem}")
    divided = _divide(utterances)
    frames = {name: _frames(part) for name, part in divided.items()}
    about = {name: _describe(part, frames[name]) for name, part in divided.items()}
    for name, numbers in about.items():
        log(f"{name}: " + ", ".join(f"{n:g} {what}" for what, n in numbers.items()))
    mean, deviation = frames["train"].mean(0), frames["train"].std(0).clamp(min=1e-6)
    train, test = ((frames[name] - mean) / deviation for name in divided)
    return Speech(train, test, about)


def draw_batches(frames: Tensor, count: int, size: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of frames, drawn from the frames in a new order in each epoch.

    Arguments
    ---------
    frames : torch.Tensor
        (N, D).
    count, size : int
        Number of batches, and of frames in each.
    seed : int
        Of the order.

    Yields
    ------
    torch.Tensor
        (size, D).

    Example
    -------
    >>> frames = torch.arange(4.0)[:, None]
    >>> torch.cat(list(draw_batches(frames, 2, 2, seed=0))).sum()
    tensor(6.)
    """
    generator = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.int64)
    for _ in range(count):
        while len(left) < size:
            order = torch.randperm(len(frames), generator=generator)
            left = torch.cat([left, order])
        yield frames[left[:size]]
        left = left[size:]


def _divide(utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    known = all(each.speaker is not None for each in utterances)
    owner = {each.id: str(each.speaker) if known else each.id for each in utterances}
    owners = sorted(set(owner.values()))
    if len(owners) < 2:
        raise CorpusError(
            f"all {len(utterances)} recordings are of one speaker; at least two are "
            "needed, to hold one out"
        )
    random.Random(0).shuffle(owners)
    held_out = set(owners[: max(1, round(len(owners) * _HELD_OUT))])
    parts: dict[str, list[Utterance]] = {"train": [], "test": []}
    for each in sorted(utterances, key=lambda each: each.id):
        parts["test" if owner[each.id] in held_out else "train"].append(each)
    return parts


def _frames(utterances: Sequence[Utterance]) -> Tensor:
    from torchaudio.transforms import MelSpectrogram

    mel = MelSpectrogram(
        SAMPLE_RATE,
        n_fft=_FFT,
        win_length=_WINDOW,
        hop_length=SAMPLE_RATE // FRAME_RATE,
        n_mels=N_MELS,
    )
    rows = [
        mel(read_audio(each.wav, SAMPLE_RATE)).clamp(min=_FLOOR).log().T
        for each in utterances
    ]
    return torch.cat(rows)


def _describe(utterances: Sequence[Utterance], frames: Tensor) -> dict[str, float]:
    numbers: dict[str, float] = {"recordings": len(utterances)}
    if all(each.speaker is not None for each in utterances):
        numbers["speakers"] = len({each.speaker for each in utterances})
    minutes = sum(each.info.duration for each in utterances) / 60
    return numbers | {"minutes": round(minutes, 1), "frames": len(frames)}
