"""The wheel, the source archive, and a package that adds a quantizer."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from yaml import safe_load

import sb_espnet_vq

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "tests" / "plugin_package"
# Input of the build; copied, since the build writes into the source folder.
SOURCES = [
    "setup.cfg",
    "pyproject.toml",
    "MANIFEST.in",
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "sb_espnet_vq",
    "recipes",
    "hparams",
]


def _run(*command, cwd, path=None):
    """Run Python with a folder of packages in front of the installed ones."""
    env = {**os.environ, "PYTHONPATH": str(path)} if path else None
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def _shipped(folder: str) -> set[str]:
    """Return the files of a folder that a wheel must carry."""
    paths = (p for p in (ROOT / folder).rglob("*") if p.is_file())
    left = {"__pycache__", "results"}
    return {str(p.relative_to(ROOT)) for p in paths if not left & set(p.parts)}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Return a copy of the sources, with traces of use that must not be shipped."""
    clone = tmp_path_factory.mktemp("clone")
    ignore = shutil.ignore_patterns("__pycache__", "results", "*.egg-info")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, ignore=ignore)
        else:
            shutil.copyfile(ROOT / name, clone / name)
    for used in ("results/x/log.txt", "__pycache__/train.pyc"):
        path = clone / "recipes" / "BEST-RQ" / used
        path.parent.mkdir(parents=True)
        path.write_text("from a run")
    return clone


@pytest.fixture(scope="module")
def wheel(clone):
    """Return a wheel built from the sources."""
    pip = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    _run(*pip, "-w", "dist", ".", cwd=clone)
    (wheel,) = (clone / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return a folder of packages in which the wheel is installed."""
    return _install(wheel, tmp_path_factory.mktemp("site"))


def _install(what: Path, site: Path) -> Path:
    pip = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "-q"]
    _run(*pip, "--target", site, what, cwd=site)
    return site


def test_setup_cfg_lists_every_package():
    listed = set(_setup_cfg()["options"]["packages"].split())
    folders = {p.parent for p in (ROOT / "sb_espnet_vq").rglob("*.py")}
    found = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert listed == found | {"sb_espnet_vq.recipes", "sb_espnet_vq.hparams"}
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.parametrize(
    ("extra", "included"),
    [
        ("recipes", "speechbrain"),
        ("all", "speechbrain"),
        ("all", "espnet"),
        ("all", "recipes"),
        ("all", "tokenizer"),
        ("all", "formats"),
        ("all", "onnx"),
        ("test", "all"),
        ("test", "docs"),
    ],
)
def test_extras_that_include_others_repeat_them(extra, included):
    def bounds(name):
        lines = _setup_cfg()["options.extras_require"][name].split("\n")
        found = [re.match(r"([\w-]+)(.*)", ln) for ln in lines if ln and ln[0] != "#"]
        return {match[1]: set(match[2].split(",")) - {""} for match in found}

    outer = bounds(extra)
    for name, wanted in bounds(included).items():
        assert wanted <= outer[name], name


def test_the_citation_is_that_of_this_version():
    citation = safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    metadata = _setup_cfg()["metadata"]
    assert citation["version"] == sb_espnet_vq.__version__
    assert [author["name"] for author in citation["authors"]] == [metadata["author"]]
    assert citation["license"] == metadata["license"]


def test_entry_points_name_what_exists():
    groups = _setup_cfg()["options.entry_points"]
    for group in ("sb_espnet_vq.quantizers", "speechbrain.lobes"):
        for line in groups[group].strip().splitlines():
            name, _, target = line.partition(" = ")
            module, _, attribute = target.partition(":")
            path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {n.name for n in tree.body if isinstance(n, ast.ClassDef)}
            assert name == name.lower() and attribute in names, line


def test_every_quantizer_is_a_lobe():
    groups = _setup_cfg()["options.entry_points"]
    quantizer_names = groups["sb_espnet_vq.quantizers"].strip().splitlines()
    lobes = groups["speechbrain.lobes"].strip().splitlines()
    assert set(quantizer_names) <= set(lobes)


def test_the_wheel_carries_recipes_and_hparams(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {n.removeprefix("sb_espnet_vq/") for n in names}
    assert _shipped("recipes") | _shipped("hparams") <= inside
    assert "sb_espnet_vq/py.typed" in names
    assert not [n for n in names if "/results/" in n or "__pycache__" in n]


def test_the_wheel_owns_one_name_only(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    version = sb_espnet_vq.__version__
    assert tops == {"sb_espnet_vq", f"sb_espnet_vq-{version}.dist-info"}


def test_the_source_archive_builds_the_same_wheel(clone, wheel, tmp_path):
    code = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    _run("-c", code, cwd=clone)
    (archive,) = (clone / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    _run("-c", code, cwd=folder)
    (again,) = (folder / "dist").glob("*.whl")
    names = [set(zipfile.ZipFile(w).namelist()) for w in (wheel, again)]
    assert names[0] == names[1]


def test_the_wheel_installs_no_global_recipes(installed, tmp_path):
    tops = {p.name for p in installed.iterdir() if p.suffix != ".dist-info"}
    assert tops <= {"sb_espnet_vq", "bin"}
    code = "import sb_espnet_vq; print(sb_espnet_vq.__file__)"
    where = _run("-c", code, cwd=tmp_path, path=installed)
    assert where.strip() == str(installed / "sb_espnet_vq" / "__init__.py")


def test_recipes_are_found_in_the_wheel(installed, tmp_path):
    sbvq = ["-m", "sb_espnet_vq.cli"]
    listed = _run(*sbvq, "ls", "hparams", cwd=tmp_path, path=installed)
    assert "best_rq/fsdd " in listed
    shown = _run(*sbvq, "show", "best_rq", cwd=tmp_path, path=installed)
    assert str(installed / "sb_espnet_vq" / "recipes" / "BEST-RQ") in shown


def test_the_recipe_starts_from_the_wheel(installed, tmp_path):
    sbvq = ["-m", "sb_espnet_vq.cli"]
    out = _run(*sbvq, "run", "best_rq", "--help", cwd=tmp_path, path=installed)
    assert "train.py" in out and "--debug" in out


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """Return a folder of packages in which the second package is installed."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(PLUGIN, source, ignore=ignore)
    return _install(source, tmp_path_factory.mktemp("plugin_site"))


def test_a_second_package_adds_a_quantizer(plugin, tmp_path):
    code = (
        "import sb_espnet_vq\n"
        "print(*sb_espnet_vq.list_quantizers())\n"
        "print(sb_espnet_vq.build('finite_scalar', dim=6, codebook_size=64))"
    )
    out = _run("-c", code, cwd=tmp_path, path=plugin)
    names, built = out.splitlines()[0].split(), out.splitlines()[1]
    assert "finite_scalar" in names and "vq" in names
    assert built.startswith("FiniteScalar(")


def test_sbvq_sees_the_quantizer_of_the_second_package(plugin, tmp_path):
    sbvq = ["-m", "sb_espnet_vq.cli"]
    listed = _run(*sbvq, "ls", "quantizers", cwd=tmp_path, path=plugin)
    assert "finite_scalar" in listed
    shown = _run(*sbvq, "show", "finite_scalar", cwd=tmp_path, path=plugin)
    assert "levels = 4" in shown


def test_the_quantizer_of_the_second_package_passes_the_quick_checks(plugin, tmp_path):
    command = ["-m", "sb_espnet_vq.cli", "check", "finite_scalar", "--quick"]
    out = _run(*command, cwd=tmp_path, path=plugin)
    assert re.search(r"finite_scalar: \d\d ok, 0 failed, 0 known", out.splitlines()[-1])


def test_the_documentation_shows_the_second_package_as_it_is():
    page = (ROOT / "docs" / "adding-a-quantizer.md").read_text(encoding="utf-8")
    for name in ("finite_scalar.py", "setup.cfg", "pyproject.toml"):
        text = (PLUGIN / name).read_text(encoding="utf-8")
        assert f"\n{text}```\n" in page, f"{name} differs from the page"
