#!/usr/bin/env python3
"""Explain the predictions of a trained sound classifier.

> python recipes/PIQ/explain.py seven.wav --run results/PIQ/fsdd/1234
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from explanation import draw, explain, percent, read_sound, write_audio
from runs import load_run

from sb_espnet_vq.errors import CheckpointError, ConfigError, CorpusError
from sb_espnet_vq.utils.files import write_text


def main(arguments: list[str]) -> None:
    """Explain each sound."""
    options = parse(arguments)
    hparams = load_run(options.run)
    rate, names = hparams["sample_rate"], unique_names(options.files)
    # Read all files before writing any.
    sounds = [read_sound(path, rate) for path in options.files]
    for path, name, signal in zip(options.files, names, sounds, strict=True):
        explanation = explain(signal, hparams)
        target = options.output / name
        draw(explanation, path.name, target.with_name(f"{name}.png"), hparams)
        write_audio(explanation, target.with_name(f"{name}.interpretation.wav"), rate)
        metrics = {"file": str(path)} | explanation.metrics()
        text = json.dumps(metrics, indent=1, ensure_ascii=False) + "\n"
        write_text(target.with_name(f"{name}.json"), text)
        print(
            f"{path}: {explanation.label}, {percent(explanation.probability)}; "
            f"interpretation {percent(explanation.kept)}, complement "
            f"{percent(explanation.left)}"
        )
        # Ignore smaller differences: clips of 5 s often have a few more samples.
        if len(signal) / rate - explanation.heard > 0.05:
            print(
                f"  the classifier used only the first {explanation.heard:.2f} of "
                f"{len(signal) / rate:.2f} s"
            )
    print(f"plots, audio and metrics: {options.output}")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="audio")
    parser.add_argument(
        "--run",
        type=Path,
        default=Path("results/PIQ/fsdd/1234"),
        metavar="FOLDER",
        help="output folder of a training (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("explanations"),
        metavar="DIR",
        help="folder for plots, audio and metrics (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def unique_names(paths: list[Path]) -> list[str]:
    """Name the output of each file: its stem, or its whole path if stems are equal.

    Raises
    ------
    ConfigError
        If a file is given twice.
    """
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise ConfigError(f"{twice[0]} is given twice")
    counts = Counter(path.stem for path in paths)
    return [
        path.stem if counts[path.stem] == 1 else "_".join(path.parts).replace("/", "")
        for path in paths
    ]


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (CheckpointError, ConfigError, CorpusError) as error:
        sys.exit(f"error: {error}")
