"""Paths of the recipes and their hparams, in a checkout and in an installed wheel."""

from pathlib import Path
from typing import NamedTuple

from sb_espnet_vq.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
# Output of runs, which is not part of a recipe.
_RUN_OUTPUT = ("__pycache__", "results")


class Recipe(NamedTuple):
    """A recipe and its hyperparameters.

    Arguments
    ---------
    name : str
        Name of the folder in lower case with ``_`` for ``-``: ``best_rq``.
    folder : pathlib.Path
        Folder of its scripts, ``run.sh`` or ``train.py``.
    hparams : dict
        Name of each configuration (``fsdd``) to its YAML file.
    """

    name: str
    folder: Path
    hparams: dict[str, Path]

    def yaml(self, name: str) -> Path:
        """Return the YAML file of a configuration.

        Raises
        ------
        ConfigError
            If the recipe has no such configuration; the error lists them.
        """
        if name not in self.hparams:
            raise ConfigError(
                f"recipe {self.name!r} has no hparams {name!r}; "
                f"it has {', '.join(self.hparams) or 'none'}"
            )
        return self.hparams[name]


def checkout_root() -> Path | None:
    """Return the root of the checkout that contains this package, None in a wheel.

    In a wheel the recipes are inside the package, in a checkout beside it.
    """
    inside = (_PACKAGE / "recipes").is_dir()
    beside = (_PACKAGE.parent / "setup.cfg").is_file()
    return _PACKAGE.parent if beside and not inside else None


def list_recipes() -> dict[str, Recipe]:
    """Return all recipes by name, one for each folder of ``recipes/``.

    The configurations of a recipe are in the folder with its name in ``hparams/``, as
    in SpeechBrain, or in its own ``conf/``, as in ESPnet.

    Example
    -------
    >>> sorted(list_recipes()["best_rq"].hparams)
    ['fsdd', 'fsdd_codebooks', 'librispeech']
    """
    root = checkout_root() or _PACKAGE
    folders = sorted(p for p in (root / "recipes").glob("*") if p.is_dir())
    recipes = {}
    for folder in folders:
        if folder.name.startswith((".", "_")):
            continue
        hparams = root / "hparams" / folder.name
        yamls = sorted(
            (hparams if hparams.is_dir() else folder / "conf").glob("*.yaml")
        )
        name = folder.name.lower().replace("-", "_")
        recipes[name] = Recipe(name, folder, {p.stem: p for p in yamls})
    return recipes


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Arguments
    ---------
    name : str
        A name of ``list_recipes()``, or the name of the folder.

    Returns
    -------
    Recipe

    Raises
    ------
    ConfigError
        If the recipe does not exist; the error lists all recipes.
    """
    known = list_recipes()
    key = name.lower().replace("-", "_")
    if key not in known:
        raise ConfigError(f"unknown recipe {name!r}; known are {', '.join(known)}")
    return known[key]


def files_of(folder: Path) -> list[Path]:
    """Return the files of a recipe's folder, relative to it and sorted."""
    files = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    return sorted(p for p in files if not set(p.parts) & set(_RUN_OUTPUT))
