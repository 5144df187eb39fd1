"""Every quantizer class can be imported from the package, and torch loads late."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import sb_espnet_vq
from sb_espnet_vq import combinators, quantizers, registry

BUILT_IN = [
    entry
    for entry in entry_points(group=registry.GROUP)
    if entry.value.startswith("sb_espnet_vq.")
]


def exported(package):
    items = {getattr(package, name) for name in package.__all__}
    classes = {item for item in items if isinstance(item, type)}
    found = {each for each in classes if issubclass(each, sb_espnet_vq.Quantizer)}
    return found - {sb_espnet_vq.Quantizer}


def test_every_registered_class_is_exported():
    registered = {entry.load() for entry in BUILT_IN}
    assert len(registered) >= 14
    assert exported(sb_espnet_vq) == registered
    assert exported(quantizers) | exported(combinators) == registered


@pytest.mark.parametrize(
    "package", [sb_espnet_vq, quantizers, combinators], ids=lambda p: p.__name__
)
def test_dir_lists_the_exports_and_unknown_names_are_refused(package):
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="has no attribute 'NoQuantizer'"):
        package.NoQuantizer  # noqa: B018


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("sb_espnet_vq", "VQ"),
        ("sb_espnet_vq.quantizers", "VQ"),
        ("sb_espnet_vq.combinators", "Grouped"),
    ],
)
def test_importing_loads_no_torch_until_a_class_is_used(module, name):
    code = (
        f"import sys, {module}\n"
        "assert 'torch' not in sys.modules\n"
        f"from {module} import {name}\n"
        "assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
