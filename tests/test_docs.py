"""The documentation is correct: examples run, named tests and files exist."""

import ast
import io
import re
import warnings
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hyperpyyaml import load_hyperpyyaml
from yaml import safe_load

from sb_espnet_vq.gan_codec.codecs import CODECS

ROOT = Path(__file__).parents[1]
DEVIATIONS = ROOT / "docs" / "deviations.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def test_readme_python_runs():
    (code,) = blocks(ROOT / "README.md", "python")
    scope: dict = {}
    exec(code, scope)
    scope["q"].eval()
    out = scope["q"](scope["x"])
    assert torch.equal(scope["q"].decode(scope["q"].encode(scope["x"])), out.quantized)


def test_python_of_the_first_page_runs():
    (code,) = blocks(ROOT / "docs/index.md", "python")
    scope: dict = {}
    exec(code, scope)
    assert scope["codes"].shape == (4, 150, 8)


@pytest.mark.parametrize("page", ["choosing.md", "recipes.md"])
def test_numbers_of_an_overview_stand_where_they_were_measured(page):
    measured = [ROOT / "docs" / f"{name}.md" for name in _MEASURED]
    measured += ROOT.glob("recipes/*/README.md")
    known = set().union(*map(_numbers, measured))
    assert len(_numbers(ROOT / "docs" / page)) > 15
    assert _numbers(ROOT / "docs" / page) <= known


_MEASURED = ("speechbrain", "benchmarks", "contract", "compare-fsdd/README")


def _numbers(page: Path) -> set[str]:
    return set(re.findall(r"\d+\.\d+|\d{2,}", page.read_text()))


def test_lists_after_a_paragraph_have_a_blank_line_before():
    # The site would render such a list as text of the paragraph.
    merged = re.compile(r"^(?![\s#>|*-]|\d+\.).+\n(?:[-*]|\d+\.) .+", re.M)
    for page in [*PAGES, *ROOT.glob("recipes/*/README.md")]:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        assert not merged.findall(text), page


def test_readme_yaml_loads():
    sizes = "p_input: 20\ncb_dim: 4\ncb_vocab: 16\n"
    *speechbrain, espnet = blocks(ROOT / "README.md", "yaml")
    assert len(speechbrain) == 2
    for yaml in speechbrain:
        quantizer = load_hyperpyyaml(io.StringIO(sizes + yaml))["Quantizer"]
        assert quantizer(torch.randn(1, 5, 20)).shape == (1, 5)
    config = safe_load(espnet)
    codec = CODECS[config["codec"]](**config["codec_conf"])
    assert codec.generator.quantizer.vq.loss_weights == {"entropy": 0.05}


def test_yaml_of_the_espnet_page_builds():
    pages = map(safe_load, blocks(ROOT / "docs/espnet.md", "yaml"))
    by_name, spectral, by_target = pages
    codec = CODECS[by_name["codec"]](**by_name["codec_conf"])
    assert codec.meta_info()["code_size_per_stream"] == [1024]
    codec = CODECS[spectral["codec"]](**spectral["codec_conf"])
    assert codec.meta_info()["frame_shift"] == 320
    assert instantiate(by_target).num_streams == 4


def test_yaml_of_the_speechbrain_page_builds():
    sizes = "extractor_dim: 16\nfinal_dim: 8\n"
    drop_in, adapter, wav2vec2, piq = blocks(ROOT / "docs/speechbrain.md", "yaml")
    for yaml in (drop_in, adapter):
        quantizer = load_hyperpyyaml(io.StringIO(yaml))["Quantizer"]
        assert quantizer(torch.randn(2, 5, 320)).shape == (2, 5)
    target = load_hyperpyyaml(io.StringIO(sizes + wav2vec2))["target_quantiser"]
    assert target.quantiser.quantizer.loss_weights["commitment"] == 1.0
    assert target(torch.randn(2, 5, 16))[0].shape == (2, 5, 8)
    psi = load_hyperpyyaml(io.StringIO(piq))["psi_model"]
    assert type(psi.codebook.quantizer).__name__ == "VQ"


def test_messages_of_the_troubleshooting_page_are_those_of_the_package():
    page = (ROOT / "docs/troubleshooting.md").read_text()
    quoted = re.findall(r"^\*Message\*: `([^`]+)`", page, re.M)
    assert len(quoted) > 5
    texts = " ".join(_texts())
    for message in quoted:
        assert message in texts, message


def _texts() -> list[str]:
    """Return every string literal of the package, without replacement fields."""
    found = []
    for path in (ROOT / "sb_espnet_vq").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [p.value for p in parts if isinstance(p, ast.Constant)]
            found += ["".join(text for text in texts if isinstance(text, str))]
    return found


def test_example_of_the_export_page_runs(tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs the exported file")
    pytest.importorskip("onnxscript", reason="torch's exporter needs it")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "docs/export.md", "python")
    scope: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, scope)
    session = onnxruntime.InferenceSession("encode.onnx")
    x = torch.randn(3, 7, 13)
    (codes,) = session.run(None, {"x": x.numpy()})
    assert torch.equal(torch.from_numpy(codes), scope["encode"](x))


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
