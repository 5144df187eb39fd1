"""``sbvq export MODEL DIR --to FORMAT``: a trained model for other programs."""

import argparse
from pathlib import Path

HELP = "export a trained model for other programs"

_FORMATS = ("hub", "speechbrain-finetune", "espnet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "model", help="a run, a saved tokenizer, or the id of a repository of the hub"
    )
    parser.add_argument("dest", type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument("--to", choices=_FORMATS, required=True, help="the format")


def main(args: argparse.Namespace) -> int:
    """Write the folder."""
    from sb_espnet_vq.tokenizer import export_espnet, export_finetuning
    from sb_espnet_vq.tokenizer.models import load_tokenizer

    tokenizer = load_tokenizer(args.model)
    if args.to == "hub":
        tokenizer.save_pretrained(args.dest)
    elif args.to == "espnet":
        export_espnet.export(tokenizer, args.dest)
    else:
        export_finetuning.export(tokenizer, args.dest)
    print(f"{args.model} exported to {args.dest}")
    return 0
