"""``sbvq decode MODEL TOKENS... --out DIR``: decode files of tokens to audio."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sb_espnet_vq.errors import TokenFileError
from sb_espnet_vq.utils.files import atomic_file

HELP = "decode files of tokens to audio"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("model", help="the codec that made the tokens, as for tokens")
    parser.add_argument(
        "tokens",
        nargs="+",
        help="files of `sbvq tokens` (.npz, .sbvq, .scp), or folders that are searched",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of WAV files")
    parser.add_argument("--device", default="cpu", help="for example cuda:0")


def main(args: argparse.Namespace) -> int:
    """Decode the files of this process."""
    import soundfile
    from tqdm import tqdm

    from sb_espnet_vq.tokenizer.models import load_tokenizer
    from sb_espnet_vq.tokenizer.output_folder import open_folder
    from sb_espnet_vq.tokenizer.utterances import find_files, shard

    files, _ = shard(find_files(args.tokens, (".npz", ".sbvq", ".scp")))
    tokenizer = load_tokenizer(args.model).to(args.device)
    source = tokenizer.source()
    # Before anything is written: the model has a decoder.
    tokenizer.decode(_one_frame(source))
    count = 0
    for key, tokens in tqdm(_utterances(files), unit="utterance", disable=None):
        source.refuse_other(tokens.source, key)
        open_folder(args.out, "wav", source)
        path, count = args.out / f"{key}.wav", count + 1
        if path.exists():
            continue
        audio = tokenizer.decode(tokens.codes[None])[0, : tokens.samples]
        # The file has 16 bits per sample.
        signal = audio.clamp(-1, 1).cpu().numpy()
        with atomic_file(path) as partial:
            soundfile.write(partial, signal, source.sample_rate)
    print(f"{count} utterances decoded to {args.out}")
    return 0


def _utterances(files: dict[str, Path]) -> Iterator[tuple[str, Any]]:
    """Yield the key and the tokens of every utterance."""
    from sb_espnet_vq.tokenizer import npz_file, packed_file

    for key, file in files.items():
        if file.suffix == ".scp":
            yield from _of_index(file)
        elif file.suffix in (npz_file.SUFFIX, packed_file.SUFFIX):
            form: Any = npz_file if file.suffix == npz_file.SUFFIX else packed_file
            yield key, form.read(file)
        else:
            raise TokenFileError(f"{file}: not a file of tokens (.npz, .sbvq, .scp)")


def _of_index(scp: Path) -> Iterable[tuple[str, Any]]:
    from sb_espnet_vq.tokenizer import kaldi_files
    from sb_espnet_vq.tokenizer.output_folder import read_record
    from sb_espnet_vq.tokenizer.tokens import TokenSource

    return kaldi_files.read(scp, TokenSource.of(read_record(scp.parent), scp))


def _one_frame(source: Any) -> Any:
    import torch

    return torch.zeros(1, 1, len(source.codebook_sizes), dtype=torch.int64)
