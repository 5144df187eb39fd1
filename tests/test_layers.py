"""Imports point down only, and each toolkit is imported only by its own modules."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "sb_espnet_vq"

# What each part of the package may import of it, itself aside. "" is the package's
# own __init__.py. docs/architecture.md draws the same.
_BELOW_SIDES = {"", "errors", "ops", "quantizers", "registry", "toolkit_words"}
LAYERS = {
    "errors": set(),
    "utils": {"errors"},
    "ops": {"errors"},
    "quantizers": {"errors", "ops"},
    "registry": {"errors", "quantizers"},
    "toolkit_words": {"errors", "quantizers", "registry"},
    "combinators": {"errors", "ops", "quantizers", "registry", "toolkit_words"},
    "": {"combinators", "errors", "quantizers", "registry"},
    "testing": _BELOW_SIDES,
    "corpora": {"errors", "utils"},
    "evaluation": {"errors", "ops", "utils"},
    "codec": _BELOW_SIDES,
    "ssl": _BELOW_SIDES | {"utils"},
    "nnet": _BELOW_SIDES,
    "lobes": _BELOW_SIDES | {"nnet"},
    "training": _BELOW_SIDES | {"utils", "corpora", "evaluation", "codec"},
    "gan_codec": _BELOW_SIDES | {"utils"},
    "tokenizer": _BELOW_SIDES | {"utils", "corpora", "training", "gan_codec"},
    "recognition": _BELOW_SIDES | {"corpora", "ssl", "tokenizer", "training", "utils"},
    "_resources": {"errors"},
    "launcher": {"errors", "registry", "utils"},
    "run": {"launcher"},
    "bench": _BELOW_SIDES
    | {"nnet", "lobes", "gan_codec", "utils", "corpora", "evaluation"},
    "compare": {"_resources", "errors", "evaluation", "training", "utils"},
    "cli": _BELOW_SIDES
    | {"testing", "_resources", "bench", "compare", "evaluation", "training"}
    | {"tokenizer", "utils"},
}
CORE = [
    "errors",
    "ops",
    "quantizers",
    "registry",
    "toolkit_words",
    "combinators",
    "",
    "testing",
]
# Imported by a check that is skipped where it is not installed.
OPTIONAL = {"testing": {"onnxruntime"}}
# hyperpyyaml belongs to SpeechBrain's side: only its YAML needs it.
# The benchmarks compare the toolkits' own classes with ours.
SIDES = {
    "speechbrain": {"nnet", "lobes", "ssl", "training", "recognition", "bench"},
    "hyperpyyaml": {"nnet", "lobes", "training"},
    "espnet2": {"gan_codec", "bench"},
    "espnet": {"gan_codec"},
}


def _part(module: str) -> str:
    """Return the part of the package that a dotted name lies in."""
    pieces = module.split(".")
    is_part = len(pieces) > 1 and (
        (PACKAGE / pieces[1]).is_dir() or (PACKAGE / f"{pieces[1]}.py").is_file()
    )
    return pieces[1] if is_part else ""


def _imports(path: Path) -> Iterator[str]:
    """Yield the full dotted names that a file imports, wherever it does."""
    package = ("sb_espnet_vq", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def _files() -> list[tuple[str, Path]]:
    """Return every file of the package and the part that it belongs to."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found.append(("" if first == "__init__" else first, path))
    return found


def _arrows() -> list[tuple[str, str, str]]:
    return [
        (part, imported, str(path.relative_to(PACKAGE.parent)))
        for part, path in _files()
        for imported in _imports(path)
    ]


def test_every_part_has_a_layer():
    assert {part for part, _ in _files()} <= set(LAYERS)


def test_imports_point_down():
    up = [
        f"{path} imports {imported}"
        for part, imported, path in _arrows()
        if imported.split(".")[0] == "sb_espnet_vq"
        and _part(imported) not in LAYERS[part] | {part}
    ]
    assert not up


def test_each_toolkit_is_imported_by_its_own_side():
    wrong = [
        f"{path} imports {imported}"
        for part, imported, path in _arrows()
        if part not in SIDES.get(imported.split(".")[0], {part})
    ]
    assert not wrong


def test_the_core_needs_torch_alone():
    known = {"torch", "sb_espnet_vq", *sys.stdlib_module_names}
    other = [
        f"{path} imports {imported}"
        for part, imported, path in _arrows()
        if part in CORE
        and imported.split(".")[0] not in known | OPTIONAL.get(part, set())
    ]
    assert not other


def test_recipes_are_never_imported():
    roots = {imported.split(".")[0] for _, imported, _ in _arrows()}
    assert not roots & {"recipes", "hparams", "tests"}


@cache
def _modules_after(code: str) -> set[str]:
    """Return the roots of the modules that a fresh interpreter holds after code."""
    show = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import sb_espnet_vq",
        "import sb_espnet_vq; sb_espnet_vq.build('vq', dim=2, codebook_size=4)",
        "from sb_espnet_vq import *",
        "import sb_espnet_vq.gan_codec",
    ],
)
def test_importing_the_package_loads_torch_alone(code):
    more = _modules_after(code) - _modules_after("import torch")
    assert more - sys.stdlib_module_names <= {"sb_espnet_vq"}


def test_no_caller_asks_for_the_class_of_a_quantizer():
    """What a caller needs to know is a member of `Quantizer`."""
    asks = re.compile(
        r"inspect\.signature|(isinstance|issubclass)\([^)]*(RVQ|GumbelVQ|VQ|BSQ)\b|"
        r"(is|==) (type\()?\"?(rvq|RVQ|GumbelVQ|BSQ|RandomProjection)\b"
    )
    found = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for part, path in _files()
        if part not in ("quantizers", "registry", "bench")
        for line in path.read_text(encoding="utf-8").splitlines()
        if asks.search(line)
    ]
    assert not found
