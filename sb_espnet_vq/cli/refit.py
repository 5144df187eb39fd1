"""``sbvq refit RUN``: refit the codebooks of a trained codec."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from sb_espnet_vq.errors import ConfigError

HELP = "refit the codebooks of a trained codec by least squares"

_EPILOG = """\
RUN is an output folder of recipes/codec with a residual quantizer (rvq). Codebooks are
refitted to the encoder's frames of the training set, alternating with encoding; encoder
and decoder do not change. The new run is loaded like any other:

  load_trained("results/codec/fsdd/rvq/1234_refitted", "codec", min_key="mel")

The hyperparams.yaml of RUN is loaded, which builds whatever it names: use runs of your
own.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=Path, help="output folder of a run")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="the new run (default: RUN_refitted)"
    )
    parser.add_argument(
        "--data_folder",
        type=Path,
        metavar="DIR",
        help="where the recordings are, if no longer where they were in training",
    )
    parser.add_argument(
        "--rounds", type=_count, default=5, help="at most (default: %(default)s)"
    )
    parser.add_argument(
        "--beam",
        type=_count,
        default=1,
        help="of the search with which the codec will encode (default: %(default)s)",
    )
    parser.add_argument(
        "--max_frames",
        type=_count,
        default=500_000,
        help="training frames, held in memory (default: %(default)s)",
    )


def main(args: argparse.Namespace) -> int:
    """Refit, write the new run and print metrics of held-out speech."""
    if find_spec("speechbrain") is None:
        raise ConfigError(
            "refit needs SpeechBrain: pip install 'sb_espnet_vq[recipes]'"
        )
    from sb_espnet_vq.training.refit import refit_run

    run = args.run.resolve()
    output = args.output or run.with_name(f"{run.name}_refitted")
    rows = refit_run(
        run,
        output,
        _log,
        data_folder=args.data_folder,
        rounds=args.rounds,
        beam=args.beam,
        max_frames=args.max_frames,
    )
    print(f"\n{_table(rows)}\n\nwrote {output}")
    return 0


def _table(rows: list[dict]) -> str:
    from sb_espnet_vq.evaluation.tables import text_table

    metrics = {
        "snr": "SNR of frames (dB)",
        "si_sdr": "SI-SDR (dB)",
        "mel_distance": "mel distance (dB)",
    }
    header = ["kbit/s", "beam"]
    header += [part for name in metrics.values() for part in (name, "refitted")]
    pairs = [
        (row, after)
        for row in rows
        for after in rows
        if row["codec"] == "before"
        and after["codec"] == "after"
        and (row["kbps"], row["beam"]) == (after["kbps"], after["beam"])
    ]
    cells = [
        [f"{row['kbps']:.2f}", row["beam"]]
        + [each[name] for name in metrics for each in (row, after)]
        for row, after in pairs
    ]
    return text_table(cells, header)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
