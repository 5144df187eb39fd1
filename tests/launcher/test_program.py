"""The launcher runs a program as Python does."""

import re

import pytest

SHOW = """
import os, sys
print(sys.argv, sys.path[0], os.getcwd(), __name__, __file__, __package__)
names = sorted(set(globals()) - {"__annotations__"})  # gone in Python 3.14
print(sys.modules["__main__"].__dict__ is globals(), names)
print(open("data.txt").read())
"""
FAIL = """
import sys
def deep():
    raise KeyError("from the program")
if len(sys.argv) > 1:
    sys.exit(int(sys.argv[1]) if sys.argv[1].isdigit() else sys.argv[1])
deep()
"""
NAMES = """
from __future__ import annotations
import dataclasses, pickle, typing
class Inner: pass
@dataclasses.dataclass
class Outer:
    inner: Inner
assert typing.get_type_hints(Outer) == {"inner": Inner}
assert type(pickle.loads(pickle.dumps(Outer(Inner())))) is Outer
"""
WORKERS = """
import multiprocessing, os, sys
TOP = "set again"
class Job:
    pass
def work(queue, job):
    queue.put((type(job) is Job, TOP, __name__, os.path.basename(sys.argv[0])))
    queue.put(sys.argv[1:])
if __name__ == "__main__":
    context = multiprocessing.get_context("METHOD")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue, Job()))
    process.start()
    print(queue.get(timeout=30), queue.get(timeout=30))
    process.join()
    sys.exit(process.exitcode)
"""
FORMS = {"script": ["prog.py"], "path": ["sub/../prog.py"], "module": ["-m", "prog"]}


def same(bench, *arguments):
    """Run a program by the launcher and by Python, compare, and return the result."""
    plain, ours = bench.python(*arguments), bench.launch(*arguments)
    assert ours.stdout == plain.stdout
    assert ours.returncode == plain.returncode
    # The traceback of a module begins with the frames of runpy.
    runner = r'  File "<frozen runpy>".*\n|  File ".*/runpy.py".*\n    .*\n'
    assert ours.stderr == re.sub(runner, "", plain.stderr)
    return ours


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_program_sees_the_environment_of_python(bench, form):
    (bench.here / "sub").mkdir()
    bench.write("data.txt", "relative to the folder")
    bench.write("prog.py", SHOW)
    done = same(bench, *form, "--flag", "-m", "--swap", "two words", "")
    assert "relative to the folder" in done.stdout


def test_a_script_imports_modules_from_its_own_folder(bench):
    bench.write("data.txt", "")
    bench.write("sub/prog.py", "import neighbour" + SHOW)
    bench.write("sub/neighbour.py", "")
    (bench.here / "link.py").symlink_to(bench.here / "sub" / "prog.py")
    assert same(bench, "sub/prog.py").returncode == 0
    assert same(bench, "link.py").returncode == 0


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("status", [[], ["7"], ["0"], ["a last word"]])
def test_exit_status_and_traceback(bench, form, status):
    (bench.here / "sub").mkdir()
    bench.write("prog.py", FAIL)
    done = same(bench, *form, *status)
    assert ("Traceback" in done.stderr) == (not status)


@pytest.mark.parametrize("form", ["script", "module"])
def test_a_syntax_error_is_shown_as_python_does(bench, form):
    bench.write("prog.py", "a = (1,\nb = 2\n")
    assert same(bench, *FORMS[form]).returncode == 1


@pytest.mark.parametrize("form", ["script", "module"])
def test_classes_of_the_program_can_be_pickled_and_looked_up(bench, form):
    bench.write("prog.py", NAMES)
    assert same(bench, *FORMS[form]).returncode == 0


def test_packages_and_relative_imports(bench):
    bench.write("data.txt", "")
    bench.write("pack/__init__.py", "print('parent first')")
    bench.write("pack/other.py", "print('sibling')")
    bench.write("pack/__main__.py", "from . import other" + SHOW)
    bench.write("pack/inner.py", "from .other import __name__ as name\nprint(name)")
    assert "sibling" in same(bench, "-m", "pack", "x").stdout
    bench.environment["PYTHONWARNINGS"] = "error"
    assert "pack.other" in same(bench, "-m", "pack.inner").stdout


@pytest.mark.parametrize("form", ["script", "module"])
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_spawned_processes_import_the_program(bench, form, method):
    bench.write("prog.py", WORKERS.replace("METHOD", method))
    done = same(bench, *FORMS[form], "--flag")
    assert "(True, 'set again'" in done.stdout


def test_spawned_processes_of_a_package(bench):
    bench.write("pack/__init__.py", "")
    bench.write("pack/jobs.py", WORKERS.replace("METHOD", "spawn"))
    assert "True" in same(bench, "-m", "pack.jobs").stdout
    main = "import multiprocessing as m, operator\nprint('once')\n"
    main += "if __name__ == '__main__':\n"
    main += "    print(m.get_context('spawn').Pool(1).map(operator.neg, [1]))"
    bench.write("pack/__main__.py", main)
    assert "[-1]" in same(bench, "-m", "pack").stdout


def test_the_namespace_exists_until_exit(bench):
    code = "import atexit\nclass A: pass\natexit.register(lambda: print(A.__name__))"
    bench.write("prog.py", code)
    assert same(bench, "prog.py").stdout == "A\n"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "nothing to run; usage:"),
        (["-m"], 2, "-m needs a value"),
        (["--swap"], 2, "--swap needs a value"),
        (["--unknown", "x.py"], 2, "unknown option --unknown"),
        (["gone.py"], 2, "cannot open gone.py: No such file"),
        (["."], 2, "cannot open .: Is a directory"),
        (["-m", "gone"], 1, "no module named gone"),
        (["-m", "json.gone"], 1, "no module named json.gone"),
        (["-m", "json"], 1, "json is a package and has no json.__main__"),
        (["-m", "sys"], 1, "no code to run in module sys"),
    ],
)
def test_invalid_requests_are_refused(bench, arguments, status, words):
    done = bench.launch(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("sb_espnet_vq.run: ") and words in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_import_error_in_a_parent_package_is_not_hidden(bench):
    bench.write("pack/__init__.py", "import missing_dependency")
    bench.write("pack/prog.py", "")
    done = bench.launch("-m", "pack.prog")
    assert done.returncode == 1
    assert "No module named 'missing_dependency'" in done.stderr
    assert 'pack/__init__.py", line 1' in done.stderr


def test_help_is_that_of_the_launcher_or_of_the_program(bench):
    bench.write("prog.py", "import sys; print(sys.argv)")
    assert bench.output("prog.py", "--help") == "['prog.py', '--help']\n"
    shown = bench.output("--help")
    assert "usage: python -m sb_espnet_vq.run" in shown and "VQEmbedding" in shown


def test_importing_the_launcher_does_nothing(bench):
    code = "import sys; n = len(sys.meta_path); import sb_espnet_vq.run as r\n"
    code += "assert len(sys.meta_path) == n and 'torch' not in sys.modules"
    assert bench.python("-c", code).returncode == 0


def test_no_toolkit_and_no_torch_before_the_program(bench):
    bench.write("prog.py", "import sys; print(*sys.modules)")
    loaded = set(bench.output("prog.py").split())
    assert not loaded & {"torch", "speechbrain", "espnet2", "numpy", "yaml"}
