"""The `sbvq` command."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sb_espnet_vq import _resources, testing
from sb_espnet_vq.cli import cp, threads
from sb_espnet_vq.cli.main import main
from sb_espnet_vq.registry import find_quantizer, list_quantizers, quantizer_options

TRAIN = """
import os, pathlib, sys
print(*sys.argv[1:], sep="\\n")
print(os.getcwd())
pathlib.Path("argv").write_text("\\n".join(sys.argv[1:]))
sys.exit(int(sys.argv[-1]) if sys.argv[-1].isdigit() else 0)
"""


SHELL = """
printf '%s\\n' "$@" > argv
echo "$PYTHON" > python
if [ "${!#}" = fail ]; then exit 5; fi
"""


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    """Create the layout of a wheel with one recipe; change to an empty folder."""
    package = tmp_path / "site" / "sb_espnet_vq"
    recipe = package / "recipes" / "My-Recipe"
    hparams = package / "hparams" / "My-Recipe"
    recipe.mkdir(parents=True)
    hparams.mkdir(parents=True)
    (recipe / "train.py").write_text(TRAIN)
    (recipe / "README.md").write_text("# A recipe for tests\n")
    (recipe / "results").mkdir()
    (recipe / "results" / "log.txt").write_text("from a run\n")
    (hparams / "fsdd.yaml").write_text("# Small\nkey: 1\n")
    (hparams / "large.yaml").write_text("# Full size\nkey: 2\n")
    monkeypatch.setattr(_resources, "_PACKAGE", package)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return package


@pytest.fixture
def shell_recipe(recipes):
    """Add a recipe in ESPnet's manner: run.sh and conf/."""
    recipe = recipes / "recipes" / "shell"
    (recipe / "conf").mkdir(parents=True)
    (recipe / "run.sh").write_text(SHELL)
    (recipe / "run.sh").chmod(0o755)
    (recipe / "conf" / "fsdd.yaml").write_text("# Small\n")
    (recipe / "conf" / "large.yaml").write_text("# Full size\n")
    return recipe


def _files(folder: Path) -> dict[str, str]:
    paths = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_text() for p in paths}


# ------------------------------------------------------------------ help and ls


@pytest.mark.parametrize("command", [["--help"], ["ls", "recipes"], ["ls", "drop-ins"]])
def test_what_needs_no_torch_does_not_load_it(command):
    code = (
        "import sys\n"
        "from sb_espnet_vq.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *command], check=True)


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for command in "ls show cp run eval tokens decode export check bench".split():
        assert f"\n    {command} " in out


def test_the_module_runs_as_the_command_does():
    command = [sys.executable, "-m", "sb_espnet_vq.cli", "ls", "recipes"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "best_rq" in done.stdout


@pytest.mark.parametrize("name", ["quantizers", "families"])
def test_ls_quantizers(name, capsys):
    assert main(["ls", name]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list_quantizers()


def test_ls_recipes_and_hparams(recipes, capsys):
    main(["ls", "recipes"])
    assert capsys.readouterr().out == "my_recipe  A recipe for tests\n"
    main(["ls", "hparams"])
    assert (
        capsys.readouterr().out
        == "my_recipe/fsdd   Small\nmy_recipe/large  Full size\n"
    )


def test_ls_drop_ins_names_both_paths(capsys):
    main(["ls", "drop-ins"])
    rows = (line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    places = dict(rows)
    module = "nnet.quantisers"
    for name, place in (
        (
            "RandomProjectionQuantizer",
            f"for speechbrain.{module}.RandomProjectionQuantizer",
        ),
        ("VectorQuantizer", "ours alone"),
    ):
        assert places[f"sb_espnet_vq.{module}.{name}"] == place


def test_ls_without_a_word_prints_all(capsys):
    assert main(["ls"]) == 0
    out = capsys.readouterr().out
    for title in ("quantizers:", "recipes:", "hparams:", "drop-ins:"):
        assert title in out


# ------------------------------------------------------------------------- show


@pytest.mark.parametrize("name", list_quantizers())
def test_show_quantizer_gives_options_and_yaml(name, capsys):
    assert main(["show", name]) == 0
    out = capsys.readouterr().out
    for option in quantizer_options(name):
        assert f"\n{option} " in out
    package = find_quantizer(name).__module__.rpartition(".")[0]
    assert f"quantizer: !new:{package}." in out


def test_show_hparams_prints_the_file(recipes, capsys):
    assert main(["show", "my_recipe/large"]) == 0
    assert capsys.readouterr().out == "# Full size\nkey: 2\n"


def test_show_recipe_prints_its_readme(recipes, capsys):
    assert main(["show", "My-Recipe"]) == 0
    assert capsys.readouterr().out.startswith("# A recipe for tests\n")


@pytest.mark.parametrize(
    ("command", "listed"),
    [
        (["show", "nothing"], ["rvq", "my_recipe"]),
        (["show", "nothing/fsdd"], ["my_recipe"]),
        (["show", "my_recipe/nothing"], ["fsdd", "large"]),
        (["run", "nothing"], ["my_recipe"]),
        (["run", "my_recipe", "nothing"], ["fsdd", "large"]),
        (["run", "my_recipe", "nothing.yaml"], ["no such file"]),
        (["cp", "nothing", "x"], ["my_recipe"]),
        (["check", "nothing"], ["rvq"]),
    ],
    ids=" ".join,
)
def test_an_unknown_name_lists_the_known(recipes, capsys, command, listed):
    assert main(command) == 2
    shown = capsys.readouterr()
    assert "nothing" in shown.err and not shown.out
    for word in listed:
        assert word in shown.err
    assert not list(Path().iterdir())


# --------------------------------------------------------------------------- cp


def test_cp_copies_scripts_and_hparams_but_no_results(recipes, capsys):
    assert main(["cp", "my_recipe", "copy"]) == 0
    assert _files(Path("copy")) == {
        "train.py": TRAIN,
        "README.md": "# A recipe for tests\n",
        "hparams/fsdd.yaml": "# Small\nkey: 1\n",
        "hparams/large.yaml": "# Full size\nkey: 2\n",
    }
    assert "cd copy && python train.py hparams/fsdd.yaml" in capsys.readouterr().out


def test_cp_keeps_a_shell_recipe_as_it_is(shell_recipe, capsys):
    assert main(["cp", "shell", "copy"]) == 0
    assert _files(Path("copy")) == {
        "run.sh": SHELL,
        "conf/fsdd.yaml": "# Small\n",
        "conf/large.yaml": "# Full size\n",
    }
    assert os.access("copy/run.sh", os.X_OK)
    assert "cd copy && bash run.sh conf/fsdd.yaml\n" in capsys.readouterr().out


def test_cp_does_not_overwrite_without_force(recipes, capsys):
    main(["cp", "my_recipe", "copy"])
    Path("copy/train.py").write_text("mine\n")
    Path("copy/notes").write_text("mine too\n")
    before = _files(Path("copy"))
    assert main(["cp", "my_recipe", "copy"]) == 2
    assert "--force" in capsys.readouterr().err
    assert _files(Path("copy")) == before
    assert main(["cp", "my_recipe", "copy", "--force"]) == 0
    assert _files(Path("copy")) == before | {"train.py": TRAIN}


@pytest.mark.parametrize("calls", range(1, 12))
@pytest.mark.parametrize("there", [False, True])
def test_cp_is_whole_or_not_at_all(recipes, monkeypatch, calls, there):
    if there:
        Path("copy").mkdir()
        Path("copy/train.py").write_text("mine\n")
        Path("copy/results").mkdir()
        Path("copy/results/log").write_text("mine\n")
    before = _files(Path())
    left = [calls]

    def fail_at_last(function):
        def call(*args):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            return function(*args)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(cp.shutil, "copyfile", fail_at_last(cp.shutil.copyfile))
        patch.setattr(cp.os, "replace", fail_at_last(cp.os.replace))
        status = main(["cp", "my_recipe", "copy", "--force"])
    failed = left[0] <= 0
    assert status == (2 if failed else 0)
    if failed:
        assert _files(Path()) == before
        assert Path("copy").exists() == there


# -------------------------------------------------------------------------- run


@pytest.mark.parametrize(
    ("words", "hparams", "passed"),
    [
        ([], "fsdd", []),
        (["--lr", "3"], "fsdd", ["--lr", "3"]),
        (["large"], "large", []),
        (["large", "--help", "x y"], "large", ["--help", "x y"]),
    ],
    ids=str,
)
def test_run_starts_train_py_in_the_current_folder(recipes, words, hparams, passed):
    status = main(["run", "my_recipe", *words])
    yaml = recipes / "hparams" / "My-Recipe" / f"{hparams}.yaml"
    assert Path("argv").read_text().splitlines() == [str(yaml), *passed]
    assert status == (3 if "3" in passed else 0)


@pytest.mark.parametrize(
    ("words", "conf", "passed"),
    [([], "fsdd", []), (["large", "--ngpu", "x y"], "large", ["--ngpu", "x y"])],
    ids=str,
)
def test_run_starts_run_sh_in_the_current_folder(shell_recipe, words, conf, passed):
    # Also where the wheel's unpacking left no executable bit.
    (shell_recipe / "run.sh").chmod(0o644)
    assert main(["run", "shell", *words]) == 0
    config = str(shell_recipe / "conf" / f"{conf}.yaml")
    assert Path("argv").read_text().splitlines() == [config, *passed]
    assert Path("python").read_text().strip() == sys.executable
    assert main(["run", "shell", "--fail", "fail"]) == 5


def _recorded(folder, recipe):
    """Make a run of a recipe in a folder."""
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"folder": str(recipe)}))


@pytest.mark.parametrize("gone", [False, True])
def test_eval_starts_the_recipe_that_a_run_recorded(recipes, tmp_path, gone):
    # An installation may have moved; its recipes have the same names.
    recipe = recipes / "recipes" / "My-Recipe"
    _recorded(Path("run"), Path("gone", "My-Recipe") if gone else recipe)
    words = ["--data_folder", "x y", "--out", "o", "--out=p", "--beam", "3"]
    assert main(["eval", "run", *words]) == 3
    passed = ["--data_folder", "x y", "--output_folder", "o", "--output_folder=p"]
    expected = ["--evaluate", "run", *passed, "--beam", "3"]
    assert Path("argv").read_text().splitlines() == expected


@pytest.mark.parametrize("named", ["my_recipe", "copy"])
def test_eval_takes_the_recipe_of_an_older_run(recipes, named):
    shutil.copytree(recipes / "recipes" / "My-Recipe", "copy")
    Path("run").mkdir()
    assert main(["eval", "run", named, "--beam", "5"]) == 5
    expected = ["--evaluate", "run", "--beam", "5"]
    assert Path("argv").read_text().splitlines() == expected


def test_eval_names_what_is_missing(recipes, capsys):
    Path("old").mkdir()
    _recorded(Path("moved"), Path("somewhere", "mine"))
    for words, message in (
        (["nowhere"], "nowhere: no such run"),
        (["old"], "one of an earlier version; name its recipe, as in `sbvq eval old"),
        (["moved"], "mine, the recipe of moved, does not exist any more; name its"),
        (["old", "moved"], "moved: no recipe with a train.py"),
        (["old", "other"], "unknown recipe 'other'"),
    ):
        assert main(["eval", *words]) == 2
        assert message in capsys.readouterr().err
    assert not Path("argv").exists()


def test_run_names_a_recipe_without_a_program(shell_recipe, capsys):
    (shell_recipe / "run.sh").unlink()
    assert main(["run", "shell"]) == 2
    assert "neither run.sh nor train.py" in capsys.readouterr().err


def test_ls_hparams_looks_into_conf(shell_recipe, capsys):
    main(["ls", "hparams"])
    assert "shell/large      Full size\n" in capsys.readouterr().out


def test_run_takes_a_yaml_of_ones_own(recipes):
    Path("own.yaml").write_text("key: 3\n")
    assert main(["run", "my_recipe", "own.yaml", "--key", "7"]) == 7
    assert Path("argv").read_text().splitlines() == ["own.yaml", "--key", "7"]


def test_run_reports_death_by_a_signal_as_a_shell_does(recipes):
    script = recipes / "recipes" / "My-Recipe" / "train.py"
    script.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert main(["run", "my_recipe"]) == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_leaves_no_child(recipes, number):
    script = recipes / "recipes" / "My-Recipe" / "train.py"
    script.write_text(
        "import os, pathlib, time\n"
        "pathlib.Path('pid.part').write_text(str(os.getpid()))\n"
        "os.replace('pid.part', 'pid')\n"
        "time.sleep(60)\n"
    )
    code = (
        "import pathlib, signal, sys\n"
        "from sb_espnet_vq import _resources\n"
        "from sb_espnet_vq.cli.main import main\n"
        # What a shell starts in the background inherits that Ctrl-C is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "_resources._PACKAGE = pathlib.Path(sys.argv[1])\n"
        "sys.exit(main(['run', 'my_recipe']))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(recipes)],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        if Path("pid").exists():
            break
        time.sleep(0.05)
    child = int(Path("pid").read_text())
    # A terminal sends Ctrl-C to both, `kill` reaches the parent alone.
    os.kill(parent.pid, number)
    if number == signal.SIGINT:
        os.kill(child, number)
    assert parent.wait(timeout=30) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


# ------------------------------------------------------------------------ check


class _Check:
    doc = "What it asks."

    def __init__(self, name, error=None):
        self.name, self.error = name, error

    def __call__(self, quantizer_name):
        assert quantizer_name == "vq"
        if self.error:
            raise self.error


@pytest.fixture
def checks(monkeypatch):
    """Return a function that replaces the contract checks."""

    def use(*found, excepted=None):
        monkeypatch.setattr(testing, "list_checks", lambda: list(found))
        monkeypatch.setattr(
            testing, "known_exception", lambda name, check: (excepted or {}).get(check)
        )

    return use


def test_check_prints_a_line_for_each(checks, capsys):
    wrong = ValueError("codes differ\nin many lines")
    checks(
        _Check("first"),
        _Check("second", wrong),
        _Check("third", wrong),
        excepted={"third": "it cannot"},
    )
    assert main(["check", "vq"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok               first",
        "FAIL             second: codes differ",
        "known exception  third: it cannot",
        "vq: 1 ok, 1 failed, 1 known exception",
    ]


def test_check_names_what_a_skipped_one_needs(checks, capsys):
    checks(testing.Check("first", "", lambda name, options: 1 / 0, needs=("no_such",)))
    assert main(["check", "vq"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "skipped          first: no_such not installed",
        "vq: 0 ok, 0 failed, 0 known exceptions, 1 skipped",
    ]


def test_check_passes_with_known_exceptions(checks, capsys):
    checks(_Check("first", ValueError()), excepted={"first": "it cannot"})
    assert main(["check", "vq"]) == 0


def test_check_verbose_says_what_and_where(checks, capsys):
    checks(_Check("first", ValueError("codes differ")))
    assert main(["check", "vq", "--verbose"]) == 1
    shown = capsys.readouterr()
    assert "What it asks." in shown.out
    assert "Traceback" in shown.err and "codes differ" in shown.err


@pytest.mark.parametrize("buffered", [True, False])
def test_a_closed_pipe_is_not_an_error(buffered):
    env = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    command = f"{sys.executable} -m sb_espnet_vq.cli ls drop-ins | true"
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True)
    assert not done.stderr


@pytest.mark.parametrize(
    ("mine", "idle", "seen", "said"),
    [
        ({}, 0.1, "PASSIVE", "passive waiting"),
        ({}, 0.9, "", "active waiting"),
        ({"OMP_NUM_THREADS": "1"}, 0.1, "", "as set by OMP_NUM_THREADS=1"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, 0.1, "ACTIVE", "as set by OMP_WAIT_POLICY"),
    ],
    ids=["busy", "free", "threads-given", "policy-given"],
)
def test_run_reports_how_threads_wait(
    recipes, monkeypatch, capfd, mine, idle, seen, said
):
    for name in threads.CHOICES:
        monkeypatch.delenv(name, raising=False)
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "idle_share", lambda: idle)
    script = recipes / "recipes" / "My-Recipe" / "train.py"
    script.write_text("import os; print(os.environ.get('OMP_WAIT_POLICY', ''))")
    assert main(["run", "my_recipe"]) == 0
    out, err = capfd.readouterr()
    assert out.strip() == seen
    assert said in err


def test_idle_time_is_what_all_processors_waited(monkeypatch):
    counters = iter([[10, 0, 5, 100, 0, 0, 0, 0], [16, 0, 6, 101, 1, 0, 1, 0]])
    monkeypatch.setattr(threads, "_times", lambda: next(counters))
    monkeypatch.setattr(threads, "_STAT", Path(__file__))
    assert threads.idle_share() == 0.2


def test_idle_time_without_its_counters_comes_from_the_load(monkeypatch):
    monkeypatch.setattr(threads, "_STAT", Path("missing"))
    monkeypatch.setattr(threads.os, "getloadavg", lambda: (1.0, 9.0, 9.0))
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 4)
    assert threads.idle_share() == 0.75
