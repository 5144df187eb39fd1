"""``sbvq show NAME``: print a quantizer, a recipe or a configuration."""

import argparse
import inspect
import re

from sb_espnet_vq import _resources
from sb_espnet_vq.errors import ConfigError

HELP = "describe a quantizer or a recipe, or print hparams"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "name",
        help="a quantizer (rvq), a recipe (best_rq) or a configuration (best_rq/fsdd)",
    )


def main(args: argparse.Namespace) -> int:
    """Print the description of a quantizer or recipe, or a configuration."""
    recipe, slash, hparams = args.name.partition("/")
    if slash:
        path = _resources.find_recipe(recipe).yaml(hparams)
        print(path.read_text(encoding="utf-8"), end="")
    elif recipe.lower().replace("-", "_") in _resources.list_recipes():
        print(_recipe_page(_resources.find_recipe(recipe)))
    else:
        print(_quantizer_page(args.name))
    return 0


def _recipe_page(recipe: _resources.Recipe) -> str:
    readme = recipe.folder / "README.md"
    lines = [readme.read_text(encoding="utf-8").strip(), ""] if readme.exists() else []
    lines += [f"recipe:  {recipe.folder}"]
    lines += [f"hparams: {path}" for path in recipe.hparams.values()]
    lines += [f"start:   sbvq run {recipe.name} [HPARAMS] [--key value ...]"]
    return "\n".join(lines)


def _quantizer_page(name: str) -> str:
    # These import torch, which recipes and configurations do not need.
    from sb_espnet_vq.cli import uses
    from sb_espnet_vq.registry import find_quantizer, list_quantizers, quantizer_options

    if name not in list_quantizers():
        raise ConfigError(
            f"{name!r} is not a quantizer, recipe or configuration. Quantizers: "
            f"{', '.join(list_quantizers())}. Recipes: "
            f"{', '.join(_resources.list_recipes())}"
        )
    quantizer, options = find_quantizer(name), quantizer_options(name)
    doc = inspect.getdoc(quantizer) or ""
    text, _, rest = doc.partition("\nArguments\n")
    path = f"{quantizer.__module__}.{quantizer.__qualname__}"
    lines = [f"{name}: {path}", "", text.strip(), ""]
    lines += ["Options", "-------"]
    for option in options.values():
        lines += [_option_line(option), *_option_text(rest, option.name)]
    lines += ["", *_yaml_example(path, options), "", *uses.describe(name)]
    return "\n".join(lines).rstrip()


def _option_line(option: inspect.Parameter) -> str:
    if option.default is option.empty:
        return f"{option.name} (required)"
    return f"{option.name} = {option.default!r}"


def _option_text(doc: str, option: str) -> list[str]:
    """Return the indented lines under ``option : type`` in a docstring."""
    match = re.search(rf"^{re.escape(option)} : .*\n((?:[ ]+.*\n?)+)", doc, re.M)
    return [f"    {line.strip()}" for line in match[1].splitlines()] if match else []


def _yaml_example(path: str, options: dict) -> list[str]:
    # Always with sizes, since their defaults may depend on the frame dimension.
    sizes = {"dim": 256, "codebook_size": 1024}
    needed = [o.name for o in options.values() if o.default is o.empty]
    names = dict.fromkeys([*needed, *(name for name in sizes if name in options)])
    lines = [
        "In YAML",
        "-------",
        "# as a module",
        f"quantizer: !new:{path}",
    ]
    return lines + [f"    {name}: {sizes.get(name, '...')}" for name in names]
