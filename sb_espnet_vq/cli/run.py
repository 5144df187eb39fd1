"""``sbvq run NAME``: start a recipe where it lies."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from sb_espnet_vq import _resources
from sb_espnet_vq.cli import threads
from sb_espnet_vq.errors import ConfigError

HELP = "run a recipe"

DEFAULT_HPARAMS = "fsdd"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.usage = "sbvq run NAME [HPARAMS] [--key value ...]"
    parser.add_argument("name", help="a recipe; `sbvq ls` lists them")
    parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        metavar="HPARAMS --key value",
        help="a configuration of the recipe (default: fsdd) or a YAML file of your "
        "own, then options that go to the recipe as they stand; --help shows them",
    )


def main(args: argparse.Namespace) -> int:
    """Run the recipe in a child process and pass its status on."""
    recipe = _resources.find_recipe(args.name)
    program = _program(recipe)
    hparams, options = _split(recipe, args.rest)
    return _run([*program, str(hparams), *options])


def _program(recipe: _resources.Recipe) -> list[str]:
    """Return what starts the recipe: its run.sh if it has one, or its train.py."""
    shell, script = recipe.folder / "run.sh", recipe.folder / "train.py"
    if shell.is_file():
        # Started by name: a wheel keeps no executable bits.
        return ["bash", str(shell)]
    if script.is_file():
        return [sys.executable, str(script)]
    raise ConfigError(
        f"recipe {recipe.name!r} has neither run.sh nor train.py in {recipe.folder}"
    )


def _split(recipe: _resources.Recipe, rest: list[str]) -> tuple[Path, list[str]]:
    """Tell the configuration from the options that follow it."""
    if not rest or rest[0].startswith("-"):
        return recipe.yaml(DEFAULT_HPARAMS), rest
    named = Path(rest[0])
    if named.suffix in (".yaml", ".yml"):
        if not named.is_file():
            raise ConfigError(f"no such file: {named}")
        return named, rest[1:]
    return recipe.yaml(rest[0]), rest[1:]


def _run(command: list[str]) -> int:
    with subprocess.Popen(command, env=_environment()) as child:
        # Ctrl-C reaches the child by itself; it may want time to save.
        forward = {signal.SIGINT: lambda *_: None}
        forward[signal.SIGTERM] = lambda *_: child.terminate()
        before = {number: signal.signal(number, do) for number, do in forward.items()}
        try:
            status = child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    # Killed by a signal: the status that a shell reports for it.
    return 128 - status if status < 0 else status


def _environment() -> dict[str, str]:
    """Set how threads wait, and let the recipe import this package."""
    waiting, line = threads.choose(os.environ, threads.idle_share())
    print(f"sbvq run: {line}", file=sys.stderr)
    # A run.sh takes the Python that runs this command from PYTHON.
    environment = {**os.environ, **waiting, "PYTHON": sys.executable}
    root = _resources.checkout_root()
    if root is not None:
        path = os.environ.get("PYTHONPATH")
        joined = os.pathsep.join([str(root), path] if path else [str(root)])
        environment["PYTHONPATH"] = joined
    return environment
