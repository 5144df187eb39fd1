"""``sbvq eval RUN``: evaluate a trained run with its best checkpoint."""

import argparse
import json
import sys
from pathlib import Path

from sb_espnet_vq import _resources
from sb_espnet_vq.cli.run import run_program
from sb_espnet_vq.errors import CheckpointError, ConfigError
from sb_espnet_vq.utils.run_files import ORIGIN

HELP = "evaluate a trained run, on its own test speech or on other speech"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.usage = (
        "sbvq eval RUN [RECIPE] [--data_folder DIR | --manifest CSV] [--out DIR] "
        "[--key value ...]"
    )
    parser.add_argument("run", type=Path, help="the output folder of a run")
    parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        metavar="RECIPE --key value",
        help="the recipe of the run, or the folder of its copy (default: as the run "
        "recorded it); --data_folder or --manifest: all of it is test speech (default: "
        "that of the run); --out: folder of the results (default: RUN/eval/NAME of the "
        "speech); then keys of the YAML that concern the evaluation. It executes the "
        "code that the run names: evaluate only runs that you trust",
    )


def main(args: argparse.Namespace) -> int:
    """Run the recipe's evaluation in a child process and return its status."""
    named = bool(args.rest) and not args.rest[0].startswith("-")
    folder = _named(args.rest[0]) if named else _recorded(args.run)
    script = folder / "train.py"
    if not script.is_file():
        raise ConfigError(f"{folder}: no recipe with a train.py")
    options = [_option(word) for word in args.rest[named:]]
    command = [sys.executable, str(script), "--evaluate", str(args.run), *options]
    return run_program(command, "sbvq eval")


def _named(recipe: str) -> Path:
    """Return the folder of a recipe that is given by its name or folder."""
    folder = Path(recipe)
    return folder if folder.is_dir() else _resources.find_recipe(recipe).folder


def _recorded(run: Path) -> Path:
    """Return the folder of the recipe that a run recorded."""
    how = f"name its recipe, as in `sbvq eval {run} best_rq`"
    if not run.is_dir():
        raise CheckpointError(f"{run}: no such run")
    record = run / ORIGIN
    if not record.is_file():
        raise ConfigError(
            f"{record} does not exist: {run} is no run of a recipe, or one of an "
            f"earlier version; {how}"
        )
    folder = Path(json.loads(record.read_text(encoding="utf-8"))["folder"])
    if folder.is_dir():
        return folder
    # The recipes of this package may be installed elsewhere now.
    key = folder.name.lower().replace("-", "_")
    if key in _resources.list_recipes():
        return _resources.find_recipe(key).folder
    raise ConfigError(f"{folder}, the recipe of {run}, does not exist any more; {how}")


def _option(word: str) -> str:
    """Return an option as the recipe names it."""
    name, equals, value = word.partition("=")
    return f"--output_folder{equals}{value}" if name == "--out" else word
