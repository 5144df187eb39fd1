"""``sbvq compare [GRID]``: train and evaluate codecs with many quantizers."""

import argparse
import os
import shlex
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sb_espnet_vq.errors import ConfigError

HELP = "train codecs with many quantizers and compare them"

_EPILOG = """\
GRID is a grid of this package (default: fsdd) or a YAML file of your own, which lists
quantizers, bitrates and options; docs/compare.md describes it. Each cell of the grid
trains a codec, then a recognizer on its tokens. The tables, the plots and a page that
shows them are written into DIR.

  sbvq compare --out results/compare --jobs 2
  sbvq compare my_grid.yaml --out results/mine --seeds 1 2 3 --number_of_epochs 5

To resume an interrupted comparison, or to add seeds and quantizers, repeat the command.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.usage = "sbvq compare [GRID] --out DIR [options] [--key value ...]"
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    # Else `--seed` would be read as `--seeds`.
    parser.allow_abbrev = False
    parser.set_defaults(takes_others=True)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of all results"
    )
    parser.add_argument(
        "--jobs", type=_count, help="cells at a time on this machine (default: 1)"
    )
    parser.add_argument(
        "--threads",
        type=_count,
        help="CPU threads of a cell (default: cores / jobs; with --ray, 1). Results "
        "depend on it in the last digits, so that a resumed comparison keeps it",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="SEED", help="instead of the grid's"
    )
    parser.add_argument(
        "--quantizers", nargs="+", metavar="NAME", help="only these of the grid"
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="cpu, cuda (cells are distributed over all GPUs), or one such as cuda:1 "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run the cells on a Ray cluster, whose machines share DIR",
    )


def main(args: argparse.Namespace) -> int:
    """Run the cells, write tables, plots and page; return 1 if a cell failed."""
    _check_packages()
    from sb_espnet_vq.bench import machine
    from sb_espnet_vq.compare.cells import Setting, is_finished
    from sb_espnet_vq.compare.check import check_grid
    from sb_espnet_vq.compare.grid import find_grid, read_grid
    from sb_espnet_vq.compare.page import write_page
    from sb_espnet_vq.compare.runner import run_cells
    from sb_espnet_vq.compare.stored import store, stored_threads
    from sb_espnet_vq.training.settings import split_arguments
    from sb_espnet_vq.utils.run_lock import lock_folder

    name, rest = _split(args.others)
    _, overrides = split_arguments(rest, ())
    _check_options(args)
    grid = read_grid(
        find_grid(name), overrides, args.seeds or (), args.quantizers or ()
    )
    asr = check_grid(grid)
    folder = args.out.resolve()
    threads = args.threads or stored_threads(folder)
    jobs = args.jobs or 1
    threads = threads or (1 if args.ray else max(1, _cores() // jobs))
    setting = Setting(folder, args.device, threads, asr)
    pool = _pool(args, threads)
    lock_folder(folder)
    store(grid, setting)
    left = [cell for cell in grid.cells if not is_finished(cell, grid, setting)]
    _log(
        f"{len(grid.cells)} cells, {len(grid.cells) - len(left)} of them finished; "
        f"{pool.jobs} at a time, each with {threads} CPU thread(s)"
    )
    # As Ctrl-C: children are stopped, and the page shows what has finished.
    received: list[int] = []

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    failures: dict[str, str] = {}
    started = time.monotonic()
    try:
        failures = run_cells(left, grid, setting, pool, _log)
    except KeyboardInterrupt:
        _log("interrupted; repeat the command to resume")
    ran = sum(is_finished(cell, grid, setting) for cell in left)
    about = {
        "machine": machine.describe_machine(args.device.partition(":")[0]),
        "versions": machine.list_versions(),
        "command": shlex.join(["sbvq", *sys.argv[1:]]),
        "jobs": pool.jobs,
        "threads": threads,
        "call": {"cells": ran, "seconds": time.monotonic() - started},
    }
    write_page(grid, setting, about, failures)
    for cell, reason in failures.items():
        _log(f"failed: {cell}: {reason}")
    print(f"page:   {folder / 'README.md'}\ntable:  {folder / 'table.csv'}")
    if received:
        return 128 + received[0]
    return 1 if failures else 0


def _check_packages() -> None:
    needed = {"speechbrain": "recipes", "matplotlib": "recipes"}
    # Tokens of a codec are made by a tokenizer.
    needed["huggingface_hub"] = "tokenizer"
    for package, extra in needed.items():
        if find_spec(package) is None:
            raise ConfigError(
                f"compare needs {package}: pip install 'sb_espnet_vq[{extra}]'"
            )


def _check_options(args: argparse.Namespace) -> None:
    import torch

    device = args.device
    if args.ray and args.jobs:
        raise ConfigError(
            "--jobs is for one machine; with --ray, as many cells run at a time as the "
            "cluster has CPUs for"
        )
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"--device must be cpu or cuda, not {device}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: torch finds no GPU; use --device cpu")


def _split(others: list[str]) -> tuple[str, list[str]]:
    """Separate the grid from the options of the recipe."""
    if others and not others[0].startswith("-"):
        return others[0], others[1:]
    return "fsdd", others


def _pool(args: argparse.Namespace, threads: int) -> Any:
    from sb_espnet_vq.compare.runner import LocalPool, RayPool, visible_gpus

    if args.ray:
        return RayPool(args.ray, threads, float(args.device.startswith("cuda")))
    return LocalPool(args.jobs or 1, visible_gpus(args.device))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
