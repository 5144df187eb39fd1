"""`--swap` replaces a toolkit's class with a registered quantizer."""

import inspect
import json
import pickle
import sys
import types
from importlib import import_module

import pytest

from sb_espnet_vq import ConfigError
from sb_espnet_vq.launcher import swaps
from sb_espnet_vq.launcher.swaps import ADAPTERS, read_swap, read_swaps
from sb_espnet_vq.utils.import_hooks import AfterImport

TARGET = "speechbrain.nnet.quantisers.RandomProjectionQuantizer"
GUMBEL = "speechbrain.nnet.quantisers.GumbelVectorQuantizer"
ESPNET = "espnet2.gan_codec.shared.quantizer.residual_vq.ResidualVectorQuantizer"


@pytest.mark.parametrize(
    ("options", "read"),
    [
        ("", {}),
        (",decay=0.9", {"decay": 0.9}),
        (",a=1e-3,b=-2.5E6,c=1.", {"a": 1e-3, "b": -2.5e6, "c": 1.0}),
        (",t=[2,0.5,1e-1],n=8", {"t": [2, 0.5, 0.1], "n": 8}),
        (",d={x: 1, y: [2, 3]},e=true", {"d": {"x": 1, "y": [2, 3]}, "e": True}),
        (",s='a,b',n=null, k = v=w", None),
        (",s='a,b]',n=null,k=v=w", {"s": "a,b]", "n": None, "k": "v=w"}),
    ],
)
def test_values_are_yaml(options, read):
    if read is None:
        with pytest.raises(ConfigError, match="not key=value"):
            read_swap(f"{TARGET}=vq{options}")
    else:
        swap = read_swap(f"{TARGET}=vq{options}")
        assert (swap.path, swap.quantizer, swap.options) == (TARGET, "vq", read)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["vq"], "expected UPSTREAM.CLASS.PATH=NAME"),
        ([f"{TARGET}="], "expected UPSTREAM.CLASS.PATH=NAME"),
        ([f"{TARGET},decay=0.9"], "cannot be swapped; classes that can are"),
        (["torch.nn.Linear=vq"], ", ".join(ADAPTERS)),
        ([f"{TARGET}=rqv"], "(did you mean 'rvq'?); registered are"),
        ([f"{TARGET}=vq,dekay=1"], "'vq' has no option 'dekay'; its options are dim"),
        ([f"{TARGET}=vq,decay"], "'decay' is not key=value"),
        ([f"{TARGET}=vq,decay="], "'decay=' is not key=value"),
        ([f"{TARGET}=vq,decay=1,decay=1"], "decay is given twice"),
        ([f"{TARGET}=vq,decay=[1"], "the value of decay is not valid YAML: '[1'"),
        ([f"{TARGET}=vq", f"{TARGET}=bsq"], "is swapped twice"),
    ],
)
def test_invalid_swaps_are_refused(texts, words):
    with pytest.raises(ConfigError) as caught:
        read_swaps(texts)
    assert words in str(caught.value) and f"--swap {texts[-1]}: " in str(caught.value)


def test_the_command_refuses_before_the_program_starts(bench):
    bench.write("prog.py", "print('started')")
    done = bench.launch("--swap", f"{TARGET}=gone", "prog.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"sb_espnet_vq.run: --swap {TARGET}=gone: unknown")
    assert done.stderr.count("\n") == 1


# ----------------------------------------------------------- a class of the toolkit


class Adapter:
    """An adapter with the interface of those of this package."""

    def __init__(self, size, *, quantizer="none", quantizer_conf=None):
        self.got = (size, quantizer, quantizer_conf)


@pytest.fixture
def swapped(monkeypatch):
    """Import a dummy toolkit with a swap to a dummy adapter."""
    module = types.ModuleType("made_up_toolkit")
    module.Place = module.Other = object
    path = "made_up_toolkit.Place"
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setitem(sys.modules, "made_up_toolkit", module)
    monkeypatch.setitem(ADAPTERS, path, f"{__name__}:Adapter")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    hook = AfterImport()
    swaps.read_swap(f"{path}=vq,list=[1, 2]").install(hook)
    hook.install()
    return module


def test_only_the_class_is_replaced(swapped):
    assert issubclass(swapped.Place, Adapter) and swapped.Other is object
    assert swapped.Place(3).got == (3, "vq", {"list": [1, 2]})
    assert swapped.Place.__name__ == "Place"
    assert "size" in inspect.signature(swapped.Place).parameters


def test_instances_do_not_share_options(swapped):
    swapped.Place(3).got[2]["list"].append(3)
    assert swapped.Place(3).got[2] == {"list": [1, 2]}


def test_a_pickle_refers_to_the_path_of_the_toolkit(swapped):
    again = pickle.loads(pickle.dumps(swapped.Place(size=3)))  # noqa: S301
    assert type(again) is swapped.Place and again.got[0] == 3


# ------------------------------------------------------------------ through the command

SHOW = """
import json, multiprocessing
{form}
def describe(quantizer):
    kind = type(quantizer)
    inner = quantizer.quantizer
    path = kind.__module__ + "." + kind.__name__
    return [path, type(inner).__name__, inner.codebook_size]
if __name__ == "__main__":
    made = Place(8, 4, 16)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(json.dumps([describe(made), pool.map(describe, [made])[0]]))
    from speechbrain.nnet.quantisers import GumbelVectorQuantizer
    assert GumbelVectorQuantizer.__mro__[1] is object
"""
FROM = "from speechbrain.nnet.quantisers import RandomProjectionQuantizer as Place"
LATER = "import speechbrain.nnet.quantisers as module\n"
LATER += "Place = module.RandomProjectionQuantizer"


@pytest.mark.parametrize(
    ("target", "form"), [(["prog.py"], FROM), (["-m", "prog"], LATER)]
)
def test_a_program_and_its_spawned_processes_get_the_adapter(toolkits, target, form):
    toolkits.write("prog.py", SHOW.replace("{form}", form))
    out = toolkits.output("--swap", f"{TARGET}=vq,codebook_size=8", *target)
    assert json.loads(out) == [[TARGET, "VQ", 8]] * 2


def test_an_unused_swap_is_reported_at_exit(toolkits):
    toolkits.write("prog.py", "import speechbrain.lobes")
    done = toolkits.launch(f"--swap={GUMBEL}=gumbel", "prog.py")
    assert done.returncode == 0
    assert "speechbrain.nnet.quantisers was never imported" in done.stderr


# --------------------------------------------------------------------- the real classes


@pytest.mark.parametrize(("path", "adapter"), ADAPTERS.items(), ids=ADAPTERS)
def test_the_adapter_has_the_constructor_of_the_class(path, adapter):
    module, _, name = path.rpartition(".")
    home, _, ours = adapter.partition(":")
    upstream = inspect.signature(getattr(import_module(module), name)).parameters
    keeps = inspect.signature(getattr(import_module(home), ours)).parameters
    assert list(keeps)[: len(upstream)] == list(upstream)
    assert {"quantizer", "quantizer_conf"} <= set(keeps)


YAML = """
import io
from hyperpyyaml import load_hyperpyyaml
place = load_hyperpyyaml(io.StringIO('''
Quantizer: !new:speechbrain.nnet.quantisers.RandomProjectionQuantizer
    input_dim: 12
    cb_dim: 4
    cb_vocab: 32
plugin: !new:speechbrain.lobes.vq
    dim: 12
    codebook_size: 32
'''))
print(type(place["Quantizer"].quantizer).__name__, type(place["plugin"]).__name__)
"""


def test_a_swap_applies_to_new_tags_of_a_speechbrain_recipe(bench):
    bench.write("prog.py", YAML)
    out = bench.output("--swap", f"{TARGET}=bsq", "prog.py")
    assert out == "BSQ VQ\n"


CODEC = """
from espnet2.gan_codec.soundstream.soundstream import SoundStreamGenerator
q = SoundStreamGenerator(hidden_dim=4, encdec_n_filters=2, quantizer_bins=16)
print(type(q.quantizer).__module__, type(q.quantizer.vq).__name__, q.quantizer.bins)
"""


@pytest.mark.slow
def test_the_quantizer_of_a_stock_espnet_codec(bench):
    bench.write("prog.py", CODEC)
    out = bench.output("--swap", f"{ESPNET}=bsq", "-m", "prog")
    assert out == f"{ESPNET.rpartition('.')[0]} BSQ 16\n"
