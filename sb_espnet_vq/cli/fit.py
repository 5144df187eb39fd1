"""``sbvq fit DATA... --out DIR``: k-means over features."""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

HELP = "fit a codebook to features by k-means"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "data",
        nargs="+",
        help="audio files, .npy files (T, D), Kaldi .scp files, or folders of them",
    )
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument(
        "--encoder",
        help="a run or a saved tokenizer, whose encoder computes the features of audio "
        "(default: log-mel)",
    )
    parser.add_argument(
        "--codebook_size", type=_count, default=512, help="default: %(default)s"
    )
    parser.add_argument(
        "--n_codebooks",
        type=_count,
        default=1,
        help="more than one are fitted to residuals (default: %(default)s)",
    )
    parser.add_argument(
        "--passes", type=_count, default=3, help="over the data (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="of the encoder")


def main(args: argparse.Namespace) -> int:
    """Fit, write the folder, and print the distortion of held-out features."""
    from sb_espnet_vq.tokenizer import kmeans_fit, kmeans_folder
    from sb_espnet_vq.tokenizer.feature_files import (
        find_features,
        refuse_widths,
        shuffled_pools,
        split,
    )

    kmeans_folder.refuse_full(args.out)
    readers = find_features(args.data, _encode(args))
    fitted, held_out = split(readers, args.seed)
    some = fitted[0]()
    # Refused before anything is fitted.
    refuse_widths(held_out, some.shape[1])
    # The width of the frames sets how many fit into memory.
    size = kmeans_fit.pool_size(args.codebook_size, some.shape[1])
    pools = functools.partial(shuffled_pools, fitted, size)
    frames = next(pools(args.seed), some[:0])
    centres = kmeans_fit.start(frames, args.codebook_size, args.n_codebooks, args.seed)
    for number in range(1, args.passes + 1):
        bar = _progress(pools(args.seed + number), f"pass {number} of {args.passes}")
        models = kmeans_fit.refine(bar, centres, args.seed)
        centres = kmeans_fit.stack_centres(models)
    rows = list(kmeans_fit.distortion(shuffled_pools(held_out, size, 0), centres))
    report = {
        "data": list(map(str, args.data)),
        "encoder": args.encoder or "log-mel",
        "seed": args.seed,
        "passes": args.passes,
        "utterances": len(fitted),
        "held_out": [
            {"error": error, "snr": snr, "perplexity": perplexity}
            for error, snr, perplexity in rows
        ],
    }
    kmeans_folder.write(args.out, models, report)
    print(_table(rows), f"\n\nwrote {args.out}", sep="")
    return 0


def _encode(args: argparse.Namespace) -> Callable[[Path], Any]:
    from sb_espnet_vq.tokenizer.feature_files import encoder_features, log_mel
    from sb_espnet_vq.tokenizer.models import load_tokenizer

    if args.encoder is None:
        return log_mel
    tokenizer = load_tokenizer(args.encoder).to(args.device)
    return functools.partial(encoder_features, tokenizer)


def _progress(pools: Any, name: str) -> Any:
    from tqdm import tqdm

    return tqdm(pools, name, unit="pool", disable=None)


def _table(rows: list[tuple[float, float, float]]) -> str:
    from sb_espnet_vq.evaluation.tables import text_table

    header = ["codebooks", "held-out error", "SNR (dB)", "perplexity of the last"]
    return text_table(
        [
            [k, f"{error:.4g}", f"{snr:.2f}", f"{perplexity:.1f}"]
            for k, (error, snr, perplexity) in enumerate(rows, start=1)
        ],
        header,
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
