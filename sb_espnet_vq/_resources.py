"""Where the recipes and their hparams lie, in a checkout and in an installed wheel."""

from pathlib import Path
from typing import NamedTuple

from sb_espnet_vq.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
# What a run leaves in a recipe's folder is not part of the recipe.
_LEFTOVERS = ("__pycache__", "results")


class Recipe(NamedTuple):
    """A recipe and its hyperparameters.

    Arguments
    ---------
    name : str
        The folder's name in lower case with ``_`` for ``-``: ``best_rq``.
    folder : pathlib.Path
        Where its scripts are: ``run.sh``, or ``train.py``.
    hparams : dict
        Name of each configuration (``fsdd``) and its YAML file.
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
    """Return the repository that this package is imported from, if it is one.

    In a wheel the recipes are inside the package, in a checkout beside it.
    """
    inside = (_PACKAGE / "recipes").is_dir()
    beside = (_PACKAGE.parent / "setup.cfg").is_file()
    return _PACKAGE.parent if beside and not inside else None


def list_recipes() -> dict[str, Recipe]:
    """Return every recipe by name: each folder of ``recipes/`` is one.

    Its configurations are in the folder of this name in ``hparams/``, as SpeechBrain
    has them, or in its own ``conf/``, as ESPnet does.

    Example
    -------
    >>> sorted(list_recipes()["best_rq"].hparams)
    ['fsdd', 'librispeech']
    """
    root = checkout_root() or _PACKAGE
    folders = sorted(p for p in (root / "recipes").glob("*") if p.is_dir())
    found = {}
    for folder in folders:
        if folder.name.startswith((".", "_")):
            continue
        hparams = root / "hparams" / folder.name
        yamls = sorted(
            (hparams if hparams.is_dir() else folder / "conf").glob("*.yaml")
        )
        name = folder.name.lower().replace("-", "_")
        found[name] = Recipe(name, folder, {p.stem: p for p in yamls})
    return found


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Arguments
    ---------
    name : str
        A name of ``list_recipes()``; the folder's own spelling does too.

    Returns
    -------
    Recipe

    Raises
    ------
    ConfigError
        If there is none; the error lists the known ones.
    """
    known = list_recipes()
    key = name.lower().replace("-", "_")
    if key not in known:
        raise ConfigError(f"unknown recipe {name!r}; known are {', '.join(known)}")
    return known[key]


def files_of(folder: Path) -> list[Path]:
    """Return the files of a recipe's folder, relative to it and sorted."""
    files = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    return sorted(p for p in files if not set(p.parts) & set(_LEFTOVERS))
