"""What the documents show holds: examples run, named tests and files exist."""

import ast
import io
import re
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

ROOT = Path(__file__).parents[1]
DEVIATIONS = ROOT / "docs" / "deviations.md"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def test_readme_python_runs():
    (code,) = blocks(ROOT / "README.md", "python")
    scope: dict = {}
    exec(code, scope)
    scope["q"].eval()
    out = scope["q"](scope["x"])
    assert torch.equal(scope["q"].decode(scope["q"].encode(scope["x"])), out.quantized)


def test_readme_yaml_loads():
    (yaml,) = blocks(ROOT / "README.md", "yaml")
    sizes = "p_input: 20\ncb_dim: 4\ncb_vocab: 16\n"
    quantizer = load_hyperpyyaml(io.StringIO(sizes + yaml))["Quantizer"]
    assert quantizer(torch.randn(1, 5, 20)).shape == (1, 5)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_deviation_names_a_test_that_exists():
    rows = re.findall(r"^\| (?!upstream)(?!-).*$", DEVIATIONS.read_text(), re.M)
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"tests/[\w/]+\.py(?:::\w+)+", row)
        assert named, f"no test in: {row}"
        for name in named:
            path, *parts = name.split("::")
            assert _defined(ROOT / path, parts), name


def _defined(path: Path, parts: list[str]) -> bool:
    body = ast.parse(path.read_text()).body
    for part in parts:
        found = [node for node in body if getattr(node, "name", None) == part]
        if not found:
            return False
        body = found[0].body
    return True
