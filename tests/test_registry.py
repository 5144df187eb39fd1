"""Names, options, and packages that misbehave."""

import sys
import traceback

import pytest

import sb_espnet_vq
from sb_espnet_vq import ConfigError, Quantizer, build, list_quantizers, registry

OURS = [
    "bsq",
    "class_partitioned",
    "entropy_vq",
    "fsq",
    "grouped",
    "gumbel",
    "lfq",
    "random_projection",
    "residual",
    "rvq",
    "simvq",
    "split",
    "vq",
    "warm_start",
]

WORKING = """
from sb_espnet_vq.quantizers.vq import VQ

class Mine(VQ):
    pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that puts a package with quantizers on the path."""

    def put(package: str, entries: dict[str, str], code: str = WORKING) -> None:
        folder = tmp_path / package
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        lines = [f"[{registry.GROUP}]", *(f"{k} = {v}" for k, v in entries.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))
        (folder / f"{package}.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))
        registry.refresh()
        added.append(package)

    added: list[str] = []
    yield put
    monkeypatch.undo()
    registry.refresh()
    for package in added:
        sys.modules.pop(package, None)


def test_our_quantizers_are_registered_and_sorted():
    names = list_quantizers()
    assert names == sorted(names)
    assert set(OURS) <= set(names)


@pytest.mark.parametrize("name", OURS)
def test_every_quantizer_of_ours_builds_from_its_sizes(name):
    quantizer = build(name, dim=8, codebook_size=16)
    assert isinstance(quantizer, Quantizer)
    assert (quantizer.dim, quantizer.codebook_size) == (8, 16)


def test_the_packages_own_function_is_the_registrys():
    assert sb_espnet_vq.build is registry.build


def test_unknown_name_suggests_and_lists():
    with pytest.raises(ConfigError) as caught:
        build("rqv", dim=8)
    assert "'rqv' (did you mean 'rvq'?)" in str(caught.value)
    for name in OURS:
        assert name in str(caught.value)


def test_names_are_lower_case():
    with pytest.raises(ConfigError, match="'VQ'.*did you mean 'vq'"):
        build("VQ", dim=8)


@pytest.mark.parametrize("name", OURS)
def test_unknown_option_is_named_and_the_known_are_listed(name):
    with pytest.raises(ConfigError) as caught:
        build(name, dim=8, codebok_size=16)
    message = str(caught.value)
    assert "'codebok_size' (did you mean 'codebook_size'?)" in message
    for option in registry.quantizer_options(name):
        assert option in message


def test_missing_option_is_named():
    with pytest.raises(ConfigError, match="'vq' needs dim"):
        build("vq")


def test_a_quantizer_of_another_package_is_found(install):
    install("other_vq", {"mine": "other_vq:Mine"})
    assert "mine" in list_quantizers()
    assert "other_vq" not in sys.modules
    assert type(build("mine", dim=4, codebook_size=8)).__name__ == "Mine"


def test_a_broken_package_fails_under_its_own_name_alone(install):
    install("broken_vq", {"broken": "broken_vq:Mine"}, "import no_such_library\n")
    assert "broken" in list_quantizers()
    build("vq", dim=4, codebook_size=8)
    with pytest.raises(
        ConfigError, match="package broken_vq.*no_such_library"
    ) as caught:
        build("broken", dim=4)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert "broken_vq.py" in "".join(traceback.format_exception(caught.value))


def test_an_entry_without_its_class_is_broken(install):
    install("empty_vq", {"empty": "empty_vq:Missing"}, "")
    with pytest.raises(ConfigError, match="'empty' of the package empty_vq.*Missing"):
        build("empty", dim=4)


def test_a_name_registered_twice_names_both_packages(install):
    install("thief_vq", {"vq": "thief_vq:Mine"})
    with pytest.raises(ConfigError) as caught:
        build("vq", dim=4)
    assert "the package sb_espnet_vq" in str(caught.value)
    assert "the package thief_vq" in str(caught.value)
    build("bsq", dim=4)


@pytest.mark.parametrize(
    "code",
    ["class Mine: pass", "def Mine(dim): pass", "from torch.nn import Linear as Mine"],
)
def test_what_is_no_quantizer_is_refused(install, code):
    install("fake_vq", {"fake": "fake_vq:Mine"}, code)
    with pytest.raises(ConfigError, match="fake_vq.*does not derive from"):
        build("fake", dim=4)


def test_an_entry_in_upper_case_is_refused(install):
    install("loud_vq", {"LOUD": "loud_vq:Mine"})
    with pytest.raises(ConfigError, match="loud_vq registers.*'loud'"):
        build("LOUD", dim=4)


def test_a_quantizer_that_takes_any_option_may(install):
    code = WORKING.replace(
        "pass", "def __init__(self, dim, **kw): super().__init__(dim, **kw)"
    )
    install("open_vq", {"open": "open_vq:Mine"}, code)
    assert build("open", dim=4, codebook_size=8).codebook_size == 8
    with pytest.raises(ConfigError, match="'open' needs dim"):
        build("open", codebook_size=8)


def test_a_package_that_is_not_installed_says_so(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(registry, "entry_points", lambda group: ())
        registry.refresh()
        with pytest.raises(ConfigError, match="not installed"):
            build("vq", dim=4)
    registry.refresh()


def test_a_class_that_is_not_registered_goes_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "my_idea.py").write_text(WORKING)
    monkeypatch.syspath_prepend(tmp_path)
    assert type(build("my_idea.Mine", dim=4, codebook_size=8)).__name__ == "Mine"
    with pytest.raises(ConfigError, match="'my_idea.Yours' cannot be imported"):
        build("my_idea.Yours", dim=4)
    with pytest.raises(ConfigError, match="'nowhere.Mine' cannot be imported"):
        build("nowhere.Mine", dim=4)
    with pytest.raises(ConfigError, match="'os.getcwd' is not a quantizer"):
        build("os.getcwd", dim=4)
