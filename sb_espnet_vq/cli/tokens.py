"""``sbvq tokens MODEL AUDIO... --out DIR``: encode audio files to tokens."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from sb_espnet_vq.errors import CorpusError, TokenFileError
from sb_espnet_vq.utils.files import write_text

HELP = "encode audio files to tokens"

_FORMATS = ("npz", "packed", "kaldi")


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
        "--n_codebooks", type=int, help="use only the first codebooks (default: all)"
    )
    parser.add_argument("--device", default="cpu", help="for example cuda:0")


def main(args: argparse.Namespace) -> int:
    """Encode the files of this process; return 1 if some could not be encoded."""
    from tqdm import tqdm

    from sb_espnet_vq.tokenizer import kaldi_files, npz_file, packed_file
    from sb_espnet_vq.tokenizer.models import load_tokenizer
    from sb_espnet_vq.tokenizer.output_folder import open_folder
    from sb_espnet_vq.tokenizer.utterances import find_files, shard

    files, rank = shard(find_files(args.audio))
    tokenizer = load_tokenizer(args.model).to(args.device)
    source = tokenizer.source(args.n_codebooks)
    kaldi = args.format == "kaldi"
    # Refused before anything is written.
    words = kaldi_files.vocabulary(source) if kaldi else []
    open_folder(args.out, args.format, source)
    ark = args.out / f"codec.{rank + 1}.ark"
    if kaldi and set(kaldi_files.keys(ark.with_suffix(".scp"))) == set(files):
        print(f"{ark} is complete")
        return 0
    # Complete utterances wait there for the archive.
    folder = args.out / f".parts.{rank + 1}" if kaldi else args.out
    form: Any = npz_file if args.format == "npz" else packed_file
    bad = []
    for key, file in tqdm(files.items(), unit="file", disable=None):
        path = folder / f"{key}{form.SUFFIX}"
        if path.exists():
            continue
        try:
            form.write(path, tokenizer.tokens_of_file(file, args.n_codebooks))
        except (CorpusError, TokenFileError) as error:
            bad.append(file)
            print(f"sbvq: {error}", file=sys.stderr)
    if bad:
        print(
            f"sbvq: {len(bad)} of {len(files)} files have no tokens; remove or repair "
            "them and run the same command again",
            file=sys.stderr,
        )
        return 1
    if kaldi:
        parts = {key: folder / f"{key}{form.SUFFIX}" for key in files}
        kaldi_files.write(ark, ((key, form.read(parts[key])) for key in parts))
        if rank == 0:
            text = "".join(f"{word}\n" for word in words)
            write_text(args.out / kaldi_files.TOKEN_LIST, text)
        shutil.rmtree(folder)
    print(f"{len(files)} files encoded to {ark if kaldi else args.out}")
    return 0
