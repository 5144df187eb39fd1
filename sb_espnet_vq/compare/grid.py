"""The grid of a comparison: quantizers at bitrates with seeds, from a YAML file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML, YAMLError

from sb_espnet_vq._resources import checkout_root, find_recipe
from sb_espnet_vq.errors import ConfigError

Options = dict[str, Any]

_FOLDER = Path("codec", "compare")
# Sections of options, and the recipes that they apply to.
SECTIONS = {"both": ("codec", "ctc"), "codec": ("codec",), "ctc": ("ctc",)}
# Options of the command line that both recipes need, so that both have the same data.
_SHARED = ("data_folder", "manifest", "cache_folder", "held_out", "sample_rate")
# What the comparison itself sets.
_SET_HERE = ("seed", "output_folder", "save_folder", "bandwidths", "asr", "tokens")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


class Cell(NamedTuple):
    """A codec with a quantizer at a bitrate, or the recognizer that all refer to.

    name : of the quantizer in the grid, None for the recognizer; bitrate : requested,
    in kbit/s, None for the recognizer; codec, ctc : options of the two recipes.
    """

    name: str | None
    bitrate: float | None
    seed: int
    codec: Options
    ctc: Options

    @property
    def id(self) -> str:
        """Folder of the cell in that of the comparison."""
        if self.name is None:
            return f"recognizers/{self.seed}"
        return f"cells/{self.name}/{self.bitrate:g}/{self.seed}"

    @property
    def title(self) -> str:
        """Name of the cell in messages."""
        if self.name is None:
            return f"recognizer, seed {self.seed}"
        return f"{self.name}, {self.bitrate:g} kbit/s, seed {self.seed}"


class Grid(NamedTuple):
    """A grid: the YAML files of the two recipes, and the cells.

    The recognizers of log-mel features come first, one for each seed.
    """

    codec: Path
    ctc: Path
    seeds: list[int]
    cells: list[Cell]


def shipped_grids() -> dict[str, Path]:
    """Return the grids of this package by name.

    Example
    -------
    >>> sorted(shipped_grids())
    ['fsdd']
    """
    root = checkout_root() or Path(__file__).resolve().parents[1]
    return {p.stem: p for p in sorted((root / "hparams" / _FOLDER).glob("*.yaml"))}


def find_grid(name: str) -> Path:
    """Return the file of a grid: a shipped one by name, or the user's own by path.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    if name not in shipped_grids():
        raise ConfigError(
            f"no grid {name!r}; there are {', '.join(shipped_grids())}, or give a "
            "file that ends with .yaml"
        )
    return shipped_grids()[name]


def read_grid(
    path: Path,
    overrides: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (),
    names: Sequence[str] = (),
) -> Grid:
    """Read a grid from a YAML file.

    Arguments
    ---------
    path : Path
        The file.
    overrides : Mapping, optional
        Options of the codec recipe; those of the data apply to both recipes.
    seeds : Sequence[int]
        Instead of those of the file, if any.
    names : Sequence[str]
        Of the quantizers that are compared; without them, all of the file.

    Returns
    -------
    Grid

    Raises
    ------
    ConfigError
        If the file or a value in it is not as expected.
    """
    tree = _read(path)
    known = {"codec", "ctc", "seeds", "options", "quantizers"}
    _only(tree, known, str(path))
    sections = _mapping(tree.get("options"), f"{path}: options")
    _only(sections, set(SECTIONS), f"{path}: options")
    options: dict[str, Options] = {"codec": {}, "ctc": {}}
    for section, recipes in SECTIONS.items():
        given = _mapping(sections.get(section), f"{path}: options: {section}")
        _refuse_own(given, f"{path}: options: {section}")
        for recipe in recipes:
            options[recipe].update(given)
    overrides = dict(overrides or {})
    _refuse_own(overrides, "the command line")
    options["codec"].update(overrides)
    options["ctc"].update({k: overrides[k] for k in _SHARED if k in overrides})
    numbers = _seeds(seeds or tree.get("seeds"), path)
    quantizers = _mapping(tree.get("quantizers"), f"{path}: quantizers")
    if not quantizers:
        raise ConfigError(f"{path}: quantizers must name at least one quantizer")
    _only(dict.fromkeys(names), set(quantizers), f"{path}: quantizers")
    if names:
        quantizers = {name: quantizers[name] for name in names}
    cells = [Cell(None, None, seed, {}, options["ctc"]) for seed in numbers]
    for name, entry in quantizers.items():
        for bitrate, own in _bitrates(name, entry, overrides, f"{path}: {name}"):
            codec = options["codec"] | own | {"bandwidths": [bitrate]}
            cells += [
                Cell(name, bitrate, seed, codec, options["ctc"]) for seed in numbers
            ]
    return Grid(
        _hparams("codec", tree.get("codec", "fsdd"), path),
        _hparams("ctc", tree.get("ctc", "fsdd"), path),
        numbers,
        cells,
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such grid file")
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{path}: not YAML ({line})") from None
    return _mapping(tree, str(path))


def _bitrates(
    name: Any, entry: Any, overrides: Options, where: str
) -> Iterator[tuple[float, Options]]:
    """Yield each bitrate of a quantizer and its options there."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: the name of a quantizer must consist of letters, digits, _, - "
            f"and ., got {name!r}"
        )
    common = _mapping(entry, where)
    bitrates: dict[Any, Any] = _mapping(
        common.pop("bitrates", None), f"{where}: bitrates"
    )
    if not bitrates:
        raise ConfigError(
            f"{where}: bitrates must map each bitrate in kbit/s to its options, as in "
            "{0.8: {n_codebooks: 1}}"
        )
    for bitrate, given in bitrates.items():
        place = f"{where}: bitrates: {bitrate}"
        if type(bitrate) not in (int, float) or not 0 < bitrate < 1e6:
            raise ConfigError(f"{place}: a bitrate must be a number above 0, in kbit/s")
        options = {"quantizer": name} | common | _mapping(given, place)
        _refuse_own(options, place)
        for key in overrides:
            if key in options:
                raise ConfigError(
                    f"--{key}: the grid sets it for each quantizer ({place}); change "
                    "it there"
                )
        yield float(bitrate), options


def _seeds(given: Any, path: Path) -> list[int]:
    seeds: list[Any] = list(given) if isinstance(given, Sequence) else []
    if not seeds or any(type(s) is not int or not 0 <= s < 2**32 for s in seeds):
        raise ConfigError(f"{path}: seeds must be a list of numbers, got {given!r}")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{path}: a seed is given twice: {seeds}")
    return seeds


def _hparams(recipe: str, given: Any, path: Path) -> Path:
    """Return a configuration of a recipe by name, or a file beside the grid."""
    if not isinstance(given, str):
        raise ConfigError(f"{path}: {recipe} must be a name or a file, got {given!r}")
    if Path(given).suffix not in (".yaml", ".yml"):
        return find_recipe(recipe).yaml(given)
    file = path.resolve().parent / given
    if not file.is_file():
        raise ConfigError(f"{path}: {recipe}: no such file: {file}")
    return file


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must map keys to values, got {value!r}")
    return dict(value)


def _only(tree: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in tree:
        if key not in known:
            raise ConfigError(
                f"{where}: unknown key {key!r}; known are {', '.join(sorted(known))}"
            )


def _refuse_own(options: Mapping[str, Any], where: str) -> None:
    for key in options:
        if key in _SET_HERE:
            raise ConfigError(f"{where}: {key} is set by the comparison itself")
