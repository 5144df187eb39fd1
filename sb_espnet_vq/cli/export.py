"""``sbvq export MODEL DIR --to FORMAT``: a trained model for other programs."""

import argparse
from pathlib import Path

from sb_espnet_vq.errors import ConfigError

HELP = "export a trained model for other programs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "model", help="a run, a saved tokenizer, or the id of a repository of the hub"
    )
    parser.add_argument("dest", type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="the format, for example hub; docs/tokenizer.md lists all",
    )


def main(args: argparse.Namespace) -> int:
    """Write the folder."""
    from sb_espnet_vq.tokenizer.exports import FORMATS

    if args.to not in FORMATS:
        raise ConfigError(f"--to must be one of {', '.join(FORMATS)}, got {args.to!r}")
    FORMATS[args.to](args.model, args.dest)
    print(f"{args.model} exported to {args.dest}")
    return 0
