"""Entry points as names of the toolkits; a broken package does not affect others."""

import pytest

from sb_espnet_vq.utils.import_hooks import AfterImport

LOBE = "class Thing: pass\nprint('imported')\n"
SAME = """
import importlib, pydoc
import plugin_a
from speechbrain.lobes import thing
import speechbrain.lobes.thing
assert thing is plugin_a.Thing is speechbrain.lobes.thing
assert importlib.import_module("speechbrain.lobes.thing") is thing
assert pydoc.locate("speechbrain.lobes.thing") is thing
"""


def test_a_class_becomes_a_lobe(toolkits):
    entries = "[speechbrain.lobes]\nthing = plugin_a:Thing\n"
    toolkits.package("a", entries, plugin_a=LOBE)
    toolkits.write("prog.py", SAME)
    assert toolkits.output("prog.py") == "imported\n"


def test_a_module_becomes_a_lobe_and_is_imported_once(toolkits):
    entries = "[speechbrain.lobes]\nmodule = plugin_a\npackage = plugin_b\n"
    modules = {"plugin_a": LOBE, "plugin_b__below": LOBE, "plugin_b____init__": ""}
    toolkits.package("a", entries, **modules)
    toolkits.write(
        "prog.py",
        "import speechbrain.lobes.package.below, speechbrain.lobes.module\n"
        "from plugin_a import Thing\n"
        "from plugin_b.below import Thing as Below\n"
        "assert speechbrain.lobes.module.Thing is Thing\n"
        "assert speechbrain.lobes.package.below.Thing is Below\n",
    )
    assert toolkits.output("prog.py") == "imported\nimported\n"


def test_unused_entries_are_not_imported(toolkits):
    entries = "[speechbrain.lobes]\nthing = plugin_a:Thing\n"
    toolkits.package("a", entries, plugin_a=LOBE)
    toolkits.write("prog.py", "import speechbrain.lobes.features")
    assert toolkits.output("prog.py") == ""


def test_an_unknown_lobe_raises_an_import_error(toolkits):
    toolkits.write("prog.py", "import speechbrain.lobes.gone")
    done = toolkits.launch("prog.py")
    assert (
        "ModuleNotFoundError: No module named 'speechbrain.lobes.gone'" in done.stderr
    )


def test_a_broken_lobe_fails_when_imported_with_its_traceback(toolkits):
    entries = "[speechbrain.lobes]\nthing = plugin_a:Thing\nbad = plugin_b:Bad\n"
    bad = "def deep():\n    raise RuntimeError('a plugin of no use')\ndeep()\n"
    toolkits.package("a", entries, plugin_a=LOBE, plugin_b=bad)
    toolkits.write("prog.py", SAME)
    assert toolkits.launch("prog.py").returncode == 0
    toolkits.write("prog.py", "from speechbrain.lobes import bad")
    done = toolkits.launch("prog.py")
    assert done.returncode == 1
    assert "in deep" in done.stderr and "a plugin of no use" in done.stderr


def test_two_packages_with_the_same_lobe(toolkits):
    for name in ("first", "second"):
        entries = f"[speechbrain.lobes]\nthing = plugin_{name}:Thing\n"
        toolkits.package(name, entries, **{f"plugin_{name}": LOBE})
    toolkits.write("prog.py", "import speechbrain.lobes.thing")
    done = toolkits.launch("prog.py")
    assert "package first (" in done.stderr and "package second (" in done.stderr
    toolkits.write("prog.py", "import speechbrain.lobes.features")
    assert toolkits.launch("prog.py").returncode == 0


def test_a_lobe_with_the_name_of_a_toolkit_module(toolkits):
    entries = "[speechbrain.lobes]\nfeatures = plugin_a:Thing\n"
    toolkits.package("a", entries, plugin_a=LOBE)
    toolkits.write("prog.py", "import speechbrain.lobes.features")
    done = toolkits.launch("prog.py")
    assert "claimed by speechbrain and the package a (plugin_a:Thing)" in done.stderr


def test_a_name_that_is_not_lower_case(toolkits):
    entries = "[speechbrain.lobes]\nThing = plugin_a:Thing\n"
    toolkits.package("a", entries, plugin_a=LOBE)
    toolkits.write("prog.py", "import speechbrain.lobes.Thing")
    assert "names must be lower case, like 'thing'" in toolkits.launch("prog.py").stderr


# ------------------------------------------------------------------------ codecs

CODEC = """
from espnet2.gan_codec.abs_gan_codec import AbsGANCodec
class Mine(AbsGANCodec): pass
class Component: pass
"""
GROUP = "[espnet2.gan_codec]\n"


def test_codecs_become_choices_and_components_attributes(toolkits):
    entries = GROUP + "mine = plugin_a:Mine\npart = plugin_a:Component\n"
    toolkits.package("a", entries, plugin_a=CODEC)
    toolkits.write(
        "prog.py",
        "from espnet2.tasks.gan_codec import codec_choices\n"
        "import plugin_a, espnet2.gan_codec\n"
        "assert codec_choices.classes['mine'] is plugin_a.Mine\n"
        "from espnet2.gan_codec import mine, part\n"
        "assert mine is plugin_a.Mine and part is plugin_a.Component\n"
        "print([n for n in codec_choices.classes if n in ('dac', 'mine', 'part')])\n",
    )
    assert toolkits.output("prog.py") == "['dac', 'mine']\n"


def test_spawned_processes_have_the_codecs(toolkits):
    toolkits.package("a", GROUP + "mine = plugin_a:Mine\n", plugin_a=CODEC)
    toolkits.write(
        "espnet2/bin/train.py",
        "import multiprocessing\n"
        "from espnet2.tasks.gan_codec import codec_choices\n"
        "def has(name): return name in codec_choices.classes\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(has, ['dac', 'mine', 'gone']))\n",
        "site",
    )
    assert toolkits.output("-m", "espnet2.bin.train") == "[True, True, False]\n"
    plain = toolkits.python("-m", "espnet2.bin.train")
    assert plain.stdout == "[True, False, False]\n"


def test_a_broken_codec_fails_when_instantiated(toolkits):
    bad = "def deep():\n    raise RuntimeError('a plugin of no use')\ndeep()\n"
    entries = GROUP + "mine = plugin_a:Mine\nbad = plugin_b:Bad\n"
    toolkits.package("a", entries, plugin_a=CODEC, plugin_b=bad)
    code = "from espnet2.tasks.gan_codec import codec_choices\n"
    code += "codec_choices.classes['mine']()\n"
    toolkits.write("prog.py", code)
    assert toolkits.launch("prog.py").returncode == 0
    toolkits.write("prog.py", code + "codec_choices.classes['bad'](dim=3)")
    done = toolkits.launch("prog.py")
    assert done.returncode == 1
    assert "in deep" in done.stderr and "a plugin of no use" in done.stderr


@pytest.mark.parametrize("name", ["dac", "mine"])
def test_codecs_with_the_same_name(toolkits, name):
    for owner in ("first", "second")[: 1 if name == "dac" else 2]:
        entries = GROUP + f"{name} = plugin_{owner}:Mine\n"
        toolkits.package(owner, entries, **{f"plugin_{owner}": CODEC})
    code = "from espnet2.tasks.gan_codec import codec_choices\n"
    toolkits.write("prog.py", code)
    assert toolkits.launch("prog.py").returncode == 0
    toolkits.write("prog.py", code + f"codec_choices.classes[{name!r}]()")
    other = "espnet2" if name == "dac" else "the package second (plugin_second:Mine)"
    done = toolkits.launch("prog.py")
    assert (
        other in done.stderr and "the package first (plugin_first:Mine)" in done.stderr
    )


# -------------------------------------------------------------------------- hook


def test_callbacks_run_at_once_for_imported_modules(monkeypatch):
    import colorsys
    import sys

    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    seen: list = []
    hook = AfterImport()
    hook.call("colorsys", seen.append)
    hook.install()
    assert seen == [colorsys]


def test_several_hooks_can_watch_one_module(bench):
    bench.write("watched.py", "VALUE = 1")
    bench.write(
        "prog.py",
        "from sb_espnet_vq.utils.import_hooks import AfterImport\n"
        "for name in 'abc':\n"
        "    hook = AfterImport()\n"
        "    hook.call('watched', lambda m, name=name: print(name, m.VALUE))\n"
        "    hook.install()\n"
        "import watched\n",
    )
    done = bench.python("prog.py")
    assert (done.stdout, done.stderr) == ("a 1\nb 1\nc 1\n", "")


def test_a_hook_leaves_no_trace_on_the_module(bench):
    bench.write("watched.py", "VALUE = 1")
    bench.write(
        "prog.py",
        "import importlib, importlib.util, inspect, sys\n"
        "from sb_espnet_vq.utils.import_hooks import AfterImport\n"
        "hook = AfterImport()\n"
        "hook.call('watched', lambda m: print('called', m.VALUE))\n"
        "hook.install()\n"
        "spec = importlib.util.find_spec('watched')\n"
        "assert spec.loader.get_source('watched') == 'VALUE = 1'\n"
        "import watched\n"
        "kind = type(watched.__loader__).__name__\n"
        "assert kind == type(watched.__spec__.loader).__name__ == 'SourceFileLoader'\n"
        "assert inspect.getsource(watched).strip() == 'VALUE = 1'\n"
        "importlib.reload(watched)\n",
    )
    done = bench.python("prog.py")
    assert (done.stdout, done.stderr) == ("called 1\ncalled 1\n", "")
