"""``sbvq run NAME``: run a recipe in a child process."""

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
        help="a configuration of the recipe (default: fsdd) or your own YAML file, "
        "then options of the recipe; --help lists them",
    )


def main(args: argparse.Namespace) -> int:
    """Run the recipe in a child process and return its status."""
    recipe = _resources.find_recipe(args.name)
    program = _program(recipe)
    hparams, options = _split(recipe, args.rest)
    return run_program([*program, str(hparams), *options], "sbvq run")


def _program(recipe: _resources.Recipe) -> list[str]:
    """Return the command of the recipe: its run.sh if it has one, else its train.py."""
    shell, script = recipe.folder / "run.sh", recipe.folder / "train.py"
    if shell.is_file():
        # With bash, since files in a wheel are not executable.
        return ["bash", str(shell)]
    if script.is_file():
        return [sys.executable, str(script)]
    raise ConfigError(
        f"recipe {recipe.name!r} has neither run.sh nor train.py in {recipe.folder}"
    )


def _split(recipe: _resources.Recipe, rest: list[str]) -> tuple[Path, list[str]]:
    """Separate the configuration from the options after it."""
    if not rest or rest[0].startswith("-"):
        return recipe.yaml(DEFAULT_HPARAMS), rest
    named = Path(rest[0])
    if named.suffix in (".yaml", ".yml"):
        if not named.is_file():
            raise ConfigError(f"no such file: {named}")
        return named, rest[1:]
    return recipe.yaml(rest[0]), rest[1:]


def run_program(command: list[str], name: str) -> int:
    """Run a program of a recipe in a child process.

    Arguments
    ---------
    command : list of str
        The program and its arguments.
    name : str
        The command of the user, for messages.

    Returns
    -------
    int
        Status of the program.
    """
    with subprocess.Popen(command, env=_environment(name)) as child:
        # The terminal sends Ctrl-C to the child as well, which may need time to save.
        forward = {signal.SIGINT: lambda *_: None}
        forward[signal.SIGTERM] = lambda *_: child.terminate()
        before = {number: signal.signal(number, do) for number, do in forward.items()}
        try:
            status = child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    # After a signal, the status that a shell reports.
    return 128 - status if status < 0 else status


def _environment(name: str) -> dict[str, str]:
    """Return variables for thread waiting and for importing this package."""
    waiting, line = threads.choose(os.environ, threads.idle_share())
    print(f"{name}: {line}", file=sys.stderr)
    # Scripts such as run.sh use the interpreter in PYTHON.
    environment = {**os.environ, **waiting, "PYTHON": sys.executable}
    root = _resources.checkout_root()
    if root is not None:
        path = os.environ.get("PYTHONPATH")
        joined = os.pathsep.join([str(root), path] if path else [str(root)])
        environment["PYTHONPATH"] = joined
    return environment
