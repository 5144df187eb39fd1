"""``sbvq ls``: list quantizers, recipes, hparams and drop-in classes."""

import argparse
import ast
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

from sb_espnet_vq import _resources
from sb_espnet_vq.errors import ConfigError

HELP = "list quantizers, recipes, hparams and drop-in classes"

_PACKAGE = Path(__file__).resolve().parent.parent
# Folders whose modules have the same path as the toolkit modules that they replace.
_MIRRORED = {
    "nnet": "speechbrain",
    "lobes/models": "speechbrain",
    "gan_codec/shared": "espnet2",
}
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "what",
        nargs="?",
        type=lambda name: _FORMER_NAMES.get(name, name),
        choices=list(_LISTS),
        help="one of the lists (default: all)",
    )


def main(args: argparse.Namespace) -> int:
    """Print the lists."""
    if args.what:
        _print(_LISTS[args.what](), indent="")
        return 0
    for title, rows in _LISTS.items():
        print(f"{title}:")
        _print(rows(), indent="  ")
    return 0


def _quantizers() -> Iterator[tuple[str, str]]:
    # Imports torch, which the other lists do not need.
    from sb_espnet_vq.registry import find_quantizer, list_quantizers

    for name in list_quantizers():
        try:
            yield name, summary(find_quantizer(name).__doc__)
        except ConfigError as error:
            yield name, f"BROKEN: {error}"


def _recipes() -> Iterator[tuple[str, str]]:
    for recipe in _resources.list_recipes().values():
        yield recipe.name, _title(recipe.folder / "README.md")


def _hparams() -> Iterator[tuple[str, str]]:
    for recipe in _resources.list_recipes().values():
        for name, path in recipe.hparams.items():
            yield f"{recipe.name}/{name}", _title(path)


def _drop_ins() -> Iterator[tuple[str, str]]:
    for folder, toolkit in _MIRRORED.items():
        for path in sorted((_PACKAGE / folder).rglob("*.py")):
            if path.name.startswith("_"):
                continue
            module = ".".join(path.relative_to(_PACKAGE).with_suffix("").parts)
            upstream = _defined_names(toolkit, module)
            for name in _public_names(path):
                replaces = upstream is None or name in upstream
                text = f"for {toolkit}.{module}.{name}" if replaces else "ours alone"
                yield f"sb_espnet_vq.{module}.{name}", text


_LISTS = {
    "quantizers": _quantizers,
    "recipes": _recipes,
    "hparams": _hparams,
    "drop-ins": _drop_ins,
}
# Still accepted.
_FORMER_NAMES = {"families": "quantizers"}


def summary(doc: str | None) -> str:
    """Return the first sentence of a docstring as one line.

    Example
    -------
    >>> summary("Counts\\n    codes. And more.")
    'Counts codes.'
    """
    first = " ".join((doc or "").strip().split("\n\n")[0].split())
    sentence, stop, _ = first.partition(". ")
    return sentence + stop.strip()


def _title(path: Path) -> str:
    """Return the heading of a Markdown file, or the first sentence of its comment."""
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    comment = takewhile(lambda line: line.startswith("#"), lines)
    return summary("\n".join(line.strip("#=- ") for line in comment))


def _public_names(path: Path) -> list[str]:
    """Return a module's ``__all__`` without importing it, which requires a toolkit."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and "__all__" in map(ast.unparse, node.targets):
            return sorted(ast.literal_eval(node.value))
    return []


def _defined_names(toolkit: str, module: str) -> set[str] | None:
    """Return the names that a toolkit's module defines; None if it is not installed."""
    spec = find_spec(toolkit)
    roots = spec.submodule_search_locations if spec else None
    if not roots:
        return None
    path = Path(roots[0], *module.split(".")).with_suffix(".py")
    if not path.is_file():
        return None
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in nodes if isinstance(node, _DEFINITIONS)}


def _print(rows: Iterable[tuple[str, str]], indent: str) -> None:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print(f"{indent}{name:<{width}}  {text}".rstrip())
