"""The documentation site builds without a warning and holds what it should."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from sb_espnet_vq import list_quantizers
from sb_espnet_vq.registry import find_quantizer, quantizer_options

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Return the folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = ["-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class _References(HTMLParser):
    """Collects the targets of links and of loaded files, and the anchors."""

    def __init__(self, page: Path):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given["id"]} if given.get("id") else set()
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("href"):
            self.loaded.append(given["href"])
        elif given.get("src"):
            self.loaded.append(given["src"])


def test_links_of_the_built_pages_lead_somewhere(site):
    pages = {page: _References(page) for page in site.rglob("index.html")}
    assert len(pages) > 25
    broken = []
    for page, references in pages.items():
        for target in references.links + references.loaded:
            if "://" in target:
                continue
            path, _, anchor = unquote(target).partition("#")
            found = (page.parent / path).resolve() if path else page
            found = found / "index.html" if found.is_dir() else found
            if not found.is_file():
                broken.append(f"{page.relative_to(site)}: {target}")
            elif anchor and found in pages and anchor not in pages[found].anchors:
                broken.append(f"{page.relative_to(site)}: {target} has no such anchor")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("index.html"):
        loaded = _References(page).loaded
        assert not [target for target in loaded if "//" in target], page


def test_every_recipe_has_a_page(site):
    recipes = [path.parent.name for path in ROOT.glob("recipes/*/README.md")]
    assert len(recipes) >= 5
    home = (site / "index.html").read_text(encoding="utf-8")
    for name in recipes:
        assert (site / "recipes" / name / "index.html").is_file()
        assert f'href="recipes/{name}/"' in home, f"{name} is not in the navigation"


@pytest.mark.parametrize("name", list_quantizers())
def test_every_quantizer_is_in_the_reference(site, name):
    page = (site / "api" / "quantizers" / "index.html").read_text(encoding="utf-8")
    quantizer = find_quantizer(name)
    package = quantizer.__module__.rpartition(".")[0]
    start = f'id="{package}.{quantizer.__name__}"'
    entry = page.partition(start)[2]
    text = re.sub(r"<[^>]+>", "", entry[: entry.find("Raises:")])
    for option in quantizer_options(name):
        assert re.search(rf"\b{option}\b\s*\(", text), option


def test_search_finds_symptoms_and_classes(site):
    index = json.loads((site / "search" / "search_index.json").read_text())
    for wanted, location in (
        ("--codec must be one of", "troubleshooting/"),
        ("ContrastiveQuantizer", "api/speechbrain/"),
        ("dead codes", ""),
    ):
        texts = {
            entry["location"]: f"{entry['title']} {entry['text']}"
            for entry in index["docs"]
        }
        found = [where for where, text in texts.items() if wanted in text]
        assert [where for where in found if where.startswith(location)], wanted


@pytest.fixture(scope="module")
def hook():
    path = ROOT / "docs" / "_site" / "pages.py"
    spec = importlib.util.spec_from_file_location("site_pages", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("recipes.md", "[a](../recipes/PIQ/README.md)", "[a](recipes/PIQ/README.md)"),
        ("recipes.md", "[a](../recipes/PIQ)", "[a](recipes/PIQ/README.md)"),
        ("api/index.md", "[a](../contract.md#x)", "[a](../contract.md#x)"),
        (
            "recipes/PIQ/README.md",
            "[a](../BEST-RQ/README.md)",
            "[a](../BEST-RQ/README.md)",
        ),
        ("recipes/PIQ/README.md", "[a](../../docs/espnet.md)", "[a](../../espnet.md)"),
        ("CONTRIBUTING.md", "[a](docs/contract.md)", "[a](contract.md)"),
        ("CHANGELOG.md", "[a](README.md)", "[a](index.md)"),
        ("versions.md", "[noxfile.py](../noxfile.py)", "noxfile.py"),
        ("versions.md", "[a](../missing.py)", "[a](../missing.py)"),
        ("versions.md", "[a](https://example.org/x)", "[a](https://example.org/x)"),
        ("versions.md", "```\n[a](../noxfile.py)\n```", "```\n[a](../noxfile.py)\n```"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(hook, source, link, expected):
    class Page:
        class file:
            src_uri = source

    assert hook.on_page_markdown(link, Page, None, None) == expected
