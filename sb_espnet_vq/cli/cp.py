"""``sbvq cp NAME DEST``: copies a recipe with its hparams."""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from sb_espnet_vq import _resources
from sb_espnet_vq.errors import ConfigError

HELP = "copy a recipe and its hparams to change them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("name", help="a recipe (best_rq)")
    parser.add_argument("dest", type=Path, help="the folder to create")
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace existing files of the recipe in DEST; keep other files",
    )


def main(args: argparse.Namespace) -> int:
    """Copy the recipe."""
    recipe = _resources.find_recipe(args.name)
    copies = _planned_copies(recipe)
    taken = [str(name) for name in copies if os.path.lexists(args.dest / name)]
    if taken and not args.force:
        raise ConfigError(
            f"{args.dest} already holds {', '.join(taken)}; "
            "choose another folder, or replace them with --force"
        )
    _copy_atomically(copies, args.dest)
    print(f"copied {len(copies)} files to {args.dest}")
    start = _start_command(recipe, args.dest)
    if start:
        print(f"start it with: {start}")
    return 0


def _start_command(recipe: _resources.Recipe, dest: Path) -> str | None:
    """Return the command that starts the copy; None if it has no program."""
    starts = {"run.sh": "bash run.sh", "train.py": "python train.py"}
    start = next((starts[name] for name in starts if (dest / name).exists()), None)
    if start is None or not recipe.hparams:
        return None
    first = "fsdd" if "fsdd" in recipe.hparams else next(iter(recipe.hparams))
    config = _path_in_copy(recipe, recipe.hparams[first])
    return f"cd {dest} && {start} {config}"


def _path_in_copy(recipe: _resources.Recipe, config: Path) -> Path:
    """Return the path of a configuration in the copy, relative to its folder."""
    if config.is_relative_to(recipe.folder):
        return config.relative_to(recipe.folder)
    return Path("hparams", config.name)


def _planned_copies(recipe: _resources.Recipe) -> dict[Path, Path]:
    """Return each file to create, relative to the new folder, and its source."""
    copies = {p: recipe.folder / p for p in _resources.files_of(recipe.folder)}
    copies |= {_path_in_copy(recipe, path): path for path in recipe.hparams.values()}
    return copies


def _copy_atomically(copies: dict[Path, Path], dest: Path) -> None:
    """Copy atomically: stage all files in a temporary folder, then move them."""
    made = [p for p in (dest, *dest.parents) if not p.exists()]
    dest.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".sbvq-", dir=dest) as aside:
            for name, source in copies.items():
                staged = Path(aside, "new", name)
                staged.parent.mkdir(parents=True, exist_ok=True)
                # Not copy2: a read-only installation must not give read-only copies.
                shutil.copyfile(source, staged)
                staged.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
            _move_all(list(copies), Path(aside), dest)
    except BaseException:
        for folder in made:
            _remove_if_empty(folder)
        raise


def _move_all(names: list[Path], aside: Path, dest: Path) -> None:
    """Move staged files to their destination; restore the old ones on failure."""
    done: list[Path] = []
    try:
        for name in names:
            done.append(name)
            (dest / name).parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(dest / name):
                (aside / "old" / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(dest / name, aside / "old" / name)
            os.replace(aside / "new" / name, dest / name)
    except BaseException:
        for name in done:
            _put_back(name, aside, dest)
        raise


def _put_back(name: Path, aside: Path, dest: Path) -> None:
    old = aside / "old" / name
    if os.path.lexists(old):
        os.replace(old, dest / name)
    elif not (aside / "new" / name).exists():
        (dest / name).unlink()
    if name.parent != Path():
        _remove_if_empty(dest / name.parent)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
