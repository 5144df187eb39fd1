"""Each quantizer is a component of its own in ESPnet's group."""

import copy
import inspect
import pickle
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
import torch

from sb_espnet_vq import list_quantizers
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.gan_codec import components
from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer

OURS = [each for each in list_quantizers() if not each.startswith("plugin")]


def component(name):
    (entry,) = entry_points(group="espnet2.gan_codec", name=name)
    return entry.load()


@pytest.mark.parametrize("name", OURS)
def test_a_component_is_registered_and_is_the_quantizer_of_that_name(name):
    assert component(name).__name__ in components.__all__
    torch.manual_seed(0)
    ours = component(name)(16, 16, 2, bins=16, kmeans_init=False).eval()
    torch.manual_seed(0)
    named = CodecQuantizer(16, 16, 2, bins=16, kmeans_init=False, quantizer=name)
    named.eval().load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 16, 30)
    for one, other in zip(ours(x, 50), named(x, 50), strict=True):
        assert torch.equal(one, other)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):  # noqa: S301
        assert torch.equal(twin.encode(x, 50), ours.encode(x, 50))


def test_the_signature_names_every_option_but_the_quantizer():
    shown = list(inspect.signature(component("bsq")).parameters)
    known = list(inspect.signature(CodecQuantizer).parameters)
    assert shown == [option for option in known if option != "quantizer"]
    with pytest.raises(TypeError, match="quantizer"):
        component("bsq")(8, quantizer="vq")
    with pytest.raises(ConfigError, match="no option"):
        component("bsq")(8, quantizer_conf={"decay": 0.9})


@pytest.mark.slow
def test_the_launcher_puts_them_into_espnets_package(tmp_path):
    pytest.importorskip("espnet2")
    (tmp_path / "look.py").write_text(
        "import espnet2.gan_codec.bsq as bsq\n"
        "from espnet2.gan_codec import rvq\n"
        "print(bsq.__name__, rvq.__name__)\n"
    )
    command = [sys.executable, "-m", "sb_espnet_vq.run", "look.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout == "BSQComponent RVQComponent\n", run.stderr
