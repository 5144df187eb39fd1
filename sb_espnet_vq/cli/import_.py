"""``sbvq import SOURCE DIR``: a quantizer, or a codec, of another program."""

import argparse
from pathlib import Path

HELP = "import a quantizer or codec that was trained elsewhere"

_OPTIONS = ("n_codebooks", "num_classes", "shared_keys")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "source",
        type=Path,
        help="a file of tensors (.safetensors, .pt, .npy), or a folder of transformers",
    )
    parser.add_argument("dest", type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument(
        "--layout", help="of its tensors (default: what their names show)"
    )
    parser.add_argument(
        "--prefix", help="of their names, if the source has several quantizers"
    )
    for name in _OPTIONS:
        parser.add_argument(
            f"--{name}", type=int, help="if the layout does not show it: docs/import.md"
        )


def main(args: argparse.Namespace) -> int:
    """Write the folder."""
    from sb_espnet_vq.tokenizer.import_source import import_source

    given = {name: getattr(args, name) for name in _OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    what = import_source(args.source, args.dest, args.layout, args.prefix, **given)
    print(f"{args.source} imported to {args.dest}: {what}")
    return 0
