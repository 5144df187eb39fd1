#!/usr/bin/env python3
"""Write the shape files for ESPnet's iterators; stage 2 of run.sh.

ESPnet would read all audio for the lengths, which data/*/utt2num_samples contains.
Recordings that are too short for the chunk iterator are skipped and counted. Too little
speech for a single batch is an error, since training would not do any step.
"""

import argparse
import logging
import sys
from pathlib import Path

from config import Config, chunk_lengths, load

from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.utils.files import write_text

logger = logging.getLogger("write_shapes")


def main(arguments: list[str]) -> None:
    """Write a shape file for training and one for validation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("data", type=Path, help="has train/ and valid/")
    parser.add_argument("output", type=Path, help="gets {train,valid}/audio_shape")
    args = parser.parse_args(arguments)
    config = load(args.config)
    batch = config.get("batch_size", 20)
    sizes = {"train": batch, "valid": config.get("valid_batch_size") or batch}
    for part, size in sizes.items():
        samples = read_samples(args.data / part / "utt2num_samples")
        usable = select(samples, part, size, config)
        lines = [f"{name} {length}\n" for name, length in usable.items()]
        write_text(args.output / part / "audio_shape", "".join(lines))


def read_samples(path: Path) -> dict[str, int]:
    """Read the number of samples of each recording from a list in Kaldi's format."""
    rows = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {name: int(length) for name, length in rows}


def select(
    samples: dict[str, int], part: str, batch_size: int, config: Config
) -> dict[str, int]:
    """Skip recordings that are not longer than a chunk; the rest must fill a batch."""
    lengths = chunk_lengths(config)
    if not lengths:
        return samples
    shortest = min(lengths)
    usable = {name: n for name, n in samples.items() if n > shortest}
    if not usable:
        raise CorpusError(
            f"{part}: all {len(samples)} recordings are too short: the longest has "
            f"{max(samples.values())} samples, and chunk_length is {shortest}; set a "
            "shorter chunk_length, or join more with --join_seconds"
        )
    if len(usable) < len(samples):
        short = len(samples) - len(usable)
        logger.warning(
            "%s: %d of %d recordings are skipped: not longer than a chunk",
            *(part, short, len(samples)),
        )
    step = max(1, int(shortest * config.get("chunk_shift_ratio", 0.5)))
    chunks = sum((n - shortest) // step + 1 for n in usable.values())
    if chunks < batch_size:
        raise CorpusError(
            f"{part}: {chunks} chunks of {shortest} samples make no batch of "
            f"{batch_size}; give more speech, or set a smaller batch_size (of "
            "validation alone: valid_batch_size) or chunk_length"
        )
    return usable


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(message)s")
    try:
        main(sys.argv[1:])
    except CorpusError as error:
        sys.exit(f"error: {error}")
