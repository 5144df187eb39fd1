"""``sbvq decode MODEL TOKENS... --out DIR``: decode files of tokens to audio."""

import argparse
import io
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
        help="files of `sbvq tokens` (.npz, .sbvq, .scp, .jsonl.gz, .parquet), or "
        "folders that are searched",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of WAV files")
    parser.add_argument("--device", default="cpu", help="for example cuda:0")


def main(args: argparse.Namespace) -> int:
    """Decode the files of this process."""
    from tqdm import tqdm

    from sb_espnet_vq.tokenizer.encoding import Folder, writing
    from sb_espnet_vq.tokenizer.models import load_tokenizer
    from sb_espnet_vq.tokenizer.output_folder import open_folder
    from sb_espnet_vq.tokenizer.token_formats import SUFFIXES, read
    from sb_espnet_vq.tokenizer.utterances import find_files, processes, shard

    files, rank = shard(find_files(args.tokens, SUFFIXES))
    tokenizer = load_tokenizer(args.model).to(args.device)
    source = tokenizer.source()
    # Before anything is written: the model has a decoder.
    tokenizer.decode(_one_frame(source))
    folder = Folder(args.out, rank, processes())
    done: set[str] = set()
    utterances = (each for key, file in files.items() for each in read(file, key))
    for key, tokens in tqdm(utterances, unit="utterance", disable=None):
        source.refuse_other(tokens.source, key)
        if key != Path(key).name:
            raise TokenFileError(f"the key {key!r} is not the name of a file")
        if key in done:
            raise TokenFileError(
                f"the key {key!r} occurs twice: decode the files into two folders"
            )
        path, new = args.out / f"{key}.wav", not done
        done.add(key)
        with writing(args.out):
            if new:
                open_folder(args.out, tokens.source, folder.parts, format="wav")
                folder.clean()
            if not path.exists():
                data = _wav(tokenizer, tokens)
                with atomic_file(path, folder.parts) as partial:
                    partial.write_bytes(data)
    folder.close()
    print(f"{len(done)} utterances decoded to {args.out}")
    return 0


def _wav(tokenizer: Any, tokens: Any) -> bytes:
    import soundfile

    audio = tokenizer.decode(tokens.codes[None])[0, : tokens.samples]
    file = io.BytesIO()
    # The file has 16 bits per sample.
    signal = audio.clamp(-1, 1).cpu().numpy()
    soundfile.write(file, signal, tokenizer.sample_rate, format="WAV")
    return file.getvalue()


def _one_frame(source: Any) -> Any:
    import torch

    return torch.zeros(1, 1, len(source.codebook_sizes), dtype=torch.int64)
