"""``sbvq distortion [NAME...]``: rate, distortion and code usage on speech."""

import argparse
import sys
from pathlib import Path

from sb_espnet_vq.errors import ConfigError

HELP = "compare rate, distortion and code usage of quantizers on speech"

_EPILOG = """\
Each NAME is a quantizer that `sbvq ls` lists, or one of other packages: espnet
(ResidualVectorQuantizer), vqp (vector-quantize-pytorch's ResidualVQ), faiss
(ResidualQuantizer). Options follow a colon, with values in JSON:

  sbvq distortion --data_folder LibriSpeech rvq rvq:decay=0.95 espnet faiss:beam=5
  sbvq distortion --data_folder . 'vq:codebook_size=4096' --beams 1 8 --seeds 0 1 2

Quantizers with parameters are trained by Adam on squared error and their own loss,
those of moving averages on the batches alone. Frames are log-mels with mean 0 and
variance 1 in each band; a fifth of the speakers is held out.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME[:OPTION=VALUE,...]",
        default=["rvq", "espnet", "vqp"],
        help="quantizers (default: rvq espnet vqp)",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data_folder", type=Path, metavar="DIR", help="a folder of recordings"
    )
    data.add_argument(
        "--manifest",
        type=Path,
        metavar="CSV",
        help="a list of recordings and speakers, as for the recipes",
    )
    training = parser.add_argument_group("training")
    for name, default, text in (
        ("codebook_size", 256, "codes in each codebook"),
        ("n_codebooks", 8, "codebooks of quantizers with several"),
        ("batches", 600, "training batches"),
        ("batch_frames", 4096, "frames in a batch"),
    ):
        training.add_argument(
            f"--{name}",
            type=_count,
            default=default,
            metavar="N",
            help=f"{text} (default: %(default)s)",
        )
    training.add_argument(
        "--lr",
        type=float,
        default=1e-3,
        help="learning rate of quantizers with parameters (default: %(default)s)",
    )
    training.add_argument(
        "--refit_rounds",
        type=int,
        default=0,
        metavar="N",
        help="also refit residual codebooks by least squares, for each beam "
        "(default: %(default)s)",
    )
    training.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="SEED", help="(default: 0)"
    )
    parser.add_argument(
        "--beams",
        type=_count,
        nargs="+",
        default=[1, 8],
        metavar="B",
        help="beams of the search, for residual quantizers (default: 1 8)",
    )
    parser.add_argument(
        "--threads", type=_count, default=2, help="CPU threads (default: %(default)s)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all results")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results")


def main(args: argparse.Namespace) -> int:
    """Train and measure each quantizer, and print the table."""
    import torch

    from sb_espnet_vq.bench import machine
    from sb_espnet_vq.bench.distortion import table
    from sb_espnet_vq.bench.distortion.data import read_speech
    from sb_espnet_vq.bench.distortion.measure import Training, measure
    from sb_espnet_vq.bench.distortion.named import make_model, parse

    training = Training(
        codebook_size=args.codebook_size,
        n_codebooks=args.n_codebooks,
        batches=args.batches,
        batch_frames=args.batch_frames,
        lr=args.lr,
        refit_rounds=args.refit_rounds,
    )
    if args.data_folder is None and args.manifest is None:
        raise ConfigError("--data_folder or --manifest must name some recordings")
    named = [(text, *parse(text)) for text in args.names]
    for _, name, options in named:
        # Refuses an invalid option now instead of after the others have trained.
        make_model(name, options, training.sizes, training.lr)
    for path in filter(None, (args.csv, args.json)):
        if path.is_dir() or not path.resolve().parent.is_dir():
            raise ConfigError(f"{path} must be a file in an existing folder")
    torch.set_num_threads(args.threads)
    speech = read_speech(args.data_folder, args.manifest, _log)
    results = [
        row
        for each in named
        for seed in args.seeds
        for row in measure(each, speech, training, args.beams, seed, _log)
    ]
    about = {
        "machine": machine.describe_machine("cpu"),
        "versions": machine.list_versions(),
        "speech": speech.about,
        "training": vars(training) | {"threads": args.threads},
    }
    print(table.distortion_table(results))
    if args.csv:
        table.write_csv(args.csv, results)
    if args.json:
        table.write_json(args.json, about, results)
    return 0


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
