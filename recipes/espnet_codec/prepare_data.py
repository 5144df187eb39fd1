#!/usr/bin/env python3
"""Write speech as data/{train,valid,test} in Kaldi's style; stage 1 of run.sh.

Each part gets `wav.scp`, `utt2spk`, `spk2utt` and `utt2num_samples`, and its audio as
mono WAV at the sample rate of the training configuration. The folder is written
atomically, under a temporary name.
"""

import argparse
import hashlib
import json
import logging
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
import torch
from config import load
from torch import Tensor

from sb_espnet_vq.corpora import (
    Utterance,
    corpus_root,
    prepare_corpus,
    read_audio,
    read_manifest,
)
from sb_espnet_vq.errors import ConfigError, CorpusError
from sb_espnet_vq.utils.run_lock import lock_folder

logger = logging.getLogger("prepare_data")

# Speaker, if known, and the utterances of a recording.
Joined = tuple[str | None, list[Utterance]]

PARTS = ("train", "valid", "test")


class Recording(NamedTuple):
    """One recording to write: its name, its speaker, and the utterances in it."""

    name: str
    speaker: str
    sources: list[Utterance]


def main(arguments: list[str]) -> None:
    """Prepare the data, unless they exist already."""
    args = read_arguments(arguments)
    rate = load(args.config)["codec_conf"]["sampling_rate"]
    made_from = describe(args, rate)
    stamp = args.data / "made_from.json"
    if stamp.is_file() and json.loads(stamp.read_text("utf-8")) == made_from:
        logger.info("%s exists already", args.data)
        return
    lock_folder(args.data.parent, f".{args.data.name}.lock")
    partial = args.data.with_name(f".{args.data.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    write_data(args, rate, partial)
    (partial / stamp.name).write_text(json.dumps(made_from, indent=1), "utf-8")
    replace(partial, args.data)


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", type=Path, required=True, help="gives the sample rate"
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder to create")
    parser.add_argument("--data_folder", help="a folder of audio")
    parser.add_argument("--manifest", help="a CSV file that lists audio")
    parser.add_argument("--cache_folder", help="for downloaded corpora")
    parser.add_argument("--held_out", type=float, nargs=2, default=(0.05, 0.15))
    parser.add_argument("--join_seconds", type=float, default=3.0)
    parser.add_argument("--peak", type=float, default=0.9, help="0: as recorded")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--nj", type=int, default=1, help="files at a time")
    args = parser.parse_args(arguments)
    # run.sh passes empty values for options that are not set.
    for name in ("data_folder", "manifest", "cache_folder"):
        setattr(args, name, getattr(args, name) or None)
    return args


def describe(args: argparse.Namespace, rate: int) -> dict[str, Any]:
    """Return the sources and settings of the data, to detect changes."""
    digest = hashlib.sha256()
    if args.manifest is not None and Path(args.manifest).is_file():
        digest.update(Path(args.manifest).read_bytes())
    elif args.data_folder is not None:
        for path in sorted(Path(args.data_folder).rglob("*")):
            state = path.lstat()
            digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())
    return {
        "data_folder": args.data_folder and os.path.abspath(args.data_folder),
        "manifest": args.manifest and os.path.abspath(args.manifest),
        "files": digest.hexdigest(),
        "sampling_rate": rate,
        "held_out": list(args.held_out),
        "join_seconds": args.join_seconds,
        "peak": args.peak,
        "seed": args.seed,
        # wav.scp holds absolute paths.
        "folder": os.path.abspath(args.data),
    }


def write_data(args: argparse.Namespace, rate: int, folder: Path) -> None:
    """Write all parts at a sample rate into a folder, to be moved to `args.data`."""
    source = {
        "data_folder": args.data_folder,
        "manifest": args.manifest,
        "cache_folder": args.cache_folder,
        "sample_rate": rate,
    }
    prepare_corpus(folder, **source, held_out=tuple(args.held_out), seed=args.seed)
    root = corpus_root(**source)
    for part in PARTS:
        utterances = read_manifest(folder / f"{part}.csv", root)
        recordings = name_all(join_short(utterances, args.join_seconds))
        samples = write_audio(recordings, folder / part / "wav", rate, args)
        kept = [each for each in recordings if samples[each.name]]
        if not kept:
            raise CorpusError(f"{part}: all {len(recordings)} recordings are silent")
        if len(kept) < len(recordings):
            silent = len(recordings) - len(kept)
            logger.warning("%s: %d silent recordings are skipped", part, silent)
        final = Path(os.path.abspath(args.data)) / part
        write_lists(kept, samples, folder / part, final)
        minutes = sum(samples.values()) / rate / 60
        logger.info("%s: %d recordings, %.1f min", part, len(kept), minutes)


def join_short(utterances: list[Utterance], seconds: float) -> list[Joined]:
    """Concatenate utterances shorter than `seconds` of the same speaker.

    ESPnet's chunk iterator drops utterances shorter than a chunk, and STOI needs 0.4 s.
    """
    recordings: list[Joined] = []
    pending: dict[str | None, list[Utterance]] = {}
    for item in utterances:
        if item.info.duration >= seconds:
            recordings.append((item.speaker, [item]))
            continue
        joined = pending.setdefault(item.speaker, [])
        joined.append(item)
        if sum(each.info.duration for each in joined) >= seconds:
            recordings.append((item.speaker, pending.pop(item.speaker)))
    for speaker, left in pending.items():
        last = [parts for other, parts in recordings if other == speaker][-1:]
        if last:
            last[0].extend(left)
        else:
            recordings.append((speaker, left))
    return recordings


def name_all(recordings: list[Joined]) -> list[Recording]:
    """Give recordings names that are valid in Kaldi's lists and as file names.

    They are sorted and start with the name of the speaker, as Kaldi requires. A
    recording without a speaker becomes its own speaker.
    """
    named = {}
    for speaker, parts in recordings:
        name = plain(parts[0].id) + (f"-{len(parts)}" if len(parts) > 1 else "")
        owner = name if speaker is None else plain(speaker)
        if not name.startswith(owner):
            name = f"{owner}-{name}"
        base, number = name, 2
        while name in named:
            name, number = f"{base}_{number}", number + 1
        named[name] = Recording(name, name if speaker is None else owner, parts)
    return [named[name] for name in sorted(named)]


def plain(text: str) -> str:
    """Replace characters that are invalid in names."""
    return re.sub(r"[^\w.+-]+", "_", text)


def write_audio(
    recordings: list[Recording], folder: Path, rate: int, args: argparse.Namespace
) -> dict[str, int]:
    """Write a WAV file for each recording; return its samples, 0 if it is silent."""

    def write(recording):
        parts = [read_audio(item.wav, rate) for item in recording.sources]
        signal = torch.cat([scale(part, args.peak) for part in parts])
        steps = (signal.clamp(-1, 1) * 32767).round()
        # Metrics and codecs divide by the energy.
        if not steps.any():
            return 0
        path = folder / f"{recording.name}.wav"
        soundfile.write(path, steps.short().numpy(), rate, "PCM_16")
        return len(steps)

    folder.mkdir(parents=True)
    with ThreadPoolExecutor(args.nj) as pool:
        lengths = list(pool.map(write, recordings))
    return {each.name: n for each, n in zip(recordings, lengths, strict=True)}


def scale(signal: Tensor, peak: float) -> Tensor:
    """Scale an utterance (samples,) to a peak; 0 leaves it unchanged.

    Training starts badly with very low levels, because biases then dominate the output
    of the first layers.
    """
    highest = signal.abs().max()
    # Below one quantization step of 16 bits the signal is silence.
    return signal * (peak / highest) if peak and highest > 1 / 32768 else signal


def write_lists(
    recordings: list[Recording], samples: dict[str, int], folder: Path, final: Path
) -> None:
    """Write Kaldi's lists of a part, with the paths that files will have in `final`."""
    speakers: dict[str, list[str]] = {}
    for each in recordings:
        speakers.setdefault(each.speaker, []).append(each.name)
    lists = {
        "wav.scp": [f"{r.name} {final}/wav/{r.name}.wav" for r in recordings],
        "utt2spk": [f"{r.name} {r.speaker}" for r in recordings],
        "spk2utt": [f"{s} {' '.join(names)}" for s, names in sorted(speakers.items())],
        "utt2num_samples": [f"{r.name} {samples[r.name]}" for r in recordings],
    }
    for name, lines in lists.items():
        (folder / name).write_text("\n".join(lines) + "\n", "utf-8")


def replace(new: Path, old: Path) -> None:
    """Replace a folder, which may be missing, by another one."""
    aside = old.with_name(f".{old.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(message)s")
    try:
        main(sys.argv[1:])
    except (ConfigError, CorpusError) as error:
        sys.exit(f"error: {error}")
