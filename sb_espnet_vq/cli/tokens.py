"""``sbvq tokens MODEL AUDIO... --out DIR``: encode audio files to tokens."""

import argparse
import sys
from pathlib import Path
from typing import Any

from sb_espnet_vq.errors import ConfigError

HELP = "encode audio files to tokens"

_FORMATS = ("npz", "packed", "kaldi", "lhotse", "parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "model", help="a run, a saved tokenizer, or the id of a repository of the hub"
    )
    parser.add_argument(
        "audio", nargs="+", help="audio files, or folders that are searched"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the tokens")
    parser.add_argument("--format", choices=_FORMATS, default="npz")
    parser.add_argument(
        "--entropy_coding",
        action="store_true",
        help="packed: code the tokens by their frequencies in all files",
    )
    parser.add_argument(
        "--n_codebooks", type=int, help="use only the first codebooks (default: all)"
    )
    parser.add_argument(
        "--beam", type=int, help="of the search for codes (default: that of the model)"
    )
    parser.add_argument("--device", default="cpu", help="for example cuda:0")


def main(args: argparse.Namespace) -> int:
    """Encode the files of this process; return 1 if some could not be encoded."""
    import torch

    from sb_espnet_vq.tokenizer.encoding import Folder, writing
    from sb_espnet_vq.tokenizer.models import load_tokenizer
    from sb_espnet_vq.tokenizer.output_folder import open_folder
    from sb_espnet_vq.tokenizer.token_formats import FORMATS
    from sb_espnet_vq.tokenizer.utterances import find_files, processes, shard

    name = _format(args)
    form = FORMATS[name]
    files, rank = shard(find_files(args.audio))
    tokenizer = load_tokenizer(args.model).to(args.device)
    source = tokenizer.source(args.n_codebooks)
    # Refused before anything is written.
    form.check(source)
    tokenizer.encode(torch.zeros(1, 0), None, args.n_codebooks, args.beam)
    folder = Folder(args.out, rank, processes())
    same: dict[str, Any] = {"format": name, "beam": args.beam}
    if form.BY_PROCESS:
        same["processes"] = folder.processes
    with writing(args.out):
        open_folder(args.out, source, folder.parts, **same)
        folder.clean(files)
        bad = _encode(args, form, folder, files, tokenizer)
    for error in bad.values():
        print(f"sbvq: {error}", file=sys.stderr)
    if bad:
        print(
            f"sbvq: {len(bad)} of {len(files)} files have no tokens; remove or repair "
            "them and run the same command again",
            file=sys.stderr,
        )
        return 1
    print(f"{len(files)} files encoded to {args.out}")
    if args.entropy_coding and files:
        _print_rates(args.out, source, files)
    return 0


def _format(args: argparse.Namespace) -> str:
    from sb_espnet_vq.tokenizer.token_formats import ENTROPY_CODED

    if not args.entropy_coding:
        return args.format
    if args.format != "packed":
        raise ConfigError(
            f"--entropy_coding needs --format packed, got --format {args.format}"
        )
    return ENTROPY_CODED


def _encode(
    args: argparse.Namespace, form: Any, folder: Any, files: Any, tokenizer: Any
) -> dict[Path, Exception]:
    from tqdm import tqdm

    from sb_espnet_vq.tokenizer.encoding import encode_files

    def encode(file: Path) -> Any:
        return tokenizer.tokens_of_file(file, args.n_codebooks, args.beam)

    source = tokenizer.source(args.n_codebooks)
    with tqdm(total=len(files), unit="file", disable=None) as bar:
        return encode_files(form, folder, files, source, encode, bar.update)


def _print_rates(folder: Path, source: Any, files: Any) -> None:
    from sb_espnet_vq.tokenizer.entropy_files import rates

    fixed, coded = rates(folder, source, files)
    print(
        f"codes: {coded / 1000:.3f} kbit/s entropy coded, with their distribution; "
        f"{fixed / 1000:.3f} kbit/s at fixed width"
    )
