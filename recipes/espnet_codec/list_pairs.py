#!/usr/bin/env python3
"""List pairs of decoded and recorded audio for scoring; stage 5 of run.sh.

ESPnet's scoring requires both to have the same length, so decoded audio, which consists
of whole frames, is cut. It also requires nonzero signals, so silent decoded audio is
counted and skipped. The bitrate is computed from the codes.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy
import soundfile
from config import codebook_sizes, load

from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.utils.files import atomic_file, write_text

STATES = ("trained", "untrained")


def main(arguments: list[str]) -> None:
    """Write lists of pairs for each job, and rates.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("recorded", type=Path, help="the test part")
    parser.add_argument("decoded", type=Path, help="has STATE/at_BANDWIDTH/{wav,codec}")
    parser.add_argument("output", type=Path, help="gets JOB/{ref,inf}.scp")
    parser.add_argument("--bandwidths", nargs="+", required=True)
    parser.add_argument("--nj", type=int, default=1)
    args = parser.parse_args(arguments)
    config = load(args.config)
    bits = [math.log2(size) for size in codebook_sizes(config)]
    rows = read_scp(args.recorded / "wav.scp")
    rate = config["codec_conf"]["sampling_rate"]
    lengths = {name: soundfile.info(path).frames for name, path in rows.items()}
    rates, pairs = {}, []
    for state in STATES:
        for bandwidth in args.bandwidths:
            folder = (args.decoded / state / f"at_{bandwidth}").absolute()
            rates[f"{state}/{bandwidth}"] = usage = measure(folder, lengths, rate, bits)
            for name, path in rows.items():
                wav = folder / "wav" / f"{name}.wav"
                if fit(wav, lengths[name]):
                    pairs.append((f"{state}/{bandwidth}/{name}", path, wav))
                else:
                    usage["silent"] += 1
    if not pairs:
        raise CorpusError(f"{args.decoded}: all decoded recordings are silent")
    write_lists(pairs, args.output, args.nj)
    write_text(args.output / "rates.json", json.dumps(rates, indent=1) + "\n")


def read_scp(path: Path) -> dict[str, str]:
    """Read a list of files in Kaldi's format (scp)."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def measure(
    folder: Path, lengths: dict[str, int], rate: int, bits: list[float]
) -> dict[str, Any]:
    """Return bitrate and code usage of the test speech, for one state and bandwidth.

    `lengths` are the samples of each recording, `rate` is the sample rate, `bits` the
    bits per code of each codebook. `used_codes` is the mean over codebooks.
    """
    codes = [numpy.load(folder / "codec" / f"{name}.npy") for name in lengths]
    books = numpy.concatenate([each.reshape(len(each), -1) for each in codes], axis=1)
    total = sum(bits[: len(books)]) * books.shape[1]
    used = [len(numpy.unique(book)) for book in books]
    return {
        "kbit_per_s": float(total / (sum(lengths.values()) / rate) / 1000),
        "codebooks": len(books),
        "used_codes": sum(used) / len(used),
        "silent": 0,
    }


def fit(path: Path, length: int) -> bool:
    """Cut decoded audio to the length of its recording; return whether it has sound."""
    if not path.is_file():
        raise CorpusError(f"{path}: was not decoded; run stage 4 again")
    signal, rate = soundfile.read(path, dtype="int16")
    if len(signal) < length:
        raise CorpusError(f"{path}: {len(signal)} samples, recorded were {length}")
    if len(signal) > length:
        with atomic_file(path) as partial:
            soundfile.write(partial, signal[:length], rate, "PCM_16")
    return bool(signal[:length].any())


def write_lists(pairs: list[tuple[str, str, Path]], folder: Path, jobs: int) -> None:
    """Write the lists of up to `jobs` scoring jobs, each into a subfolder.

    A pair is a key, the recorded and the decoded file.
    """
    for job in range(min(jobs, len(pairs))):
        mine = pairs[job::jobs]
        for name, column in (("ref.scp", 1), ("inf.scp", 2)):
            lines = [f"{pair[0]} {pair[column]}\n" for pair in mine]
            write_text(folder / str(job + 1) / name, "".join(lines))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except CorpusError as error:
        sys.exit(f"error: {error}")
