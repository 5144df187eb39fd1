"""`sbvq bench`: measurements, agreement, missing packages and output files."""

import dataclasses
import json
import os
import re
import signal
from importlib.util import find_spec

import pytest
import torch

from sb_espnet_vq.bench.agreement import Agreement, compare
from sb_espnet_vq.bench.alone import measure_alone
from sb_espnet_vq.bench.case import FLOOR, OURS, PLAIN, Contender, Run
from sb_espnet_vq.bench.cases import CASES
from sb_espnet_vq.bench.isolation import Isolation
from sb_espnet_vq.bench.memory import extra_peak_bytes
from sb_espnet_vq.bench.timing import Setting, time_interleaved
from sb_espnet_vq.cli.main import main
from sb_espnet_vq.errors import ChildError

MIB = 2**20
ONE_THREAD = ["--quick", "--threads", "1", "--repeats", "2"]
SETTING = Setting(device="cpu", threads=1, repeats=2)


def wrong(problem) -> Run:
    """Return a wrong code for one frame in a hundred."""
    run = CASES["random_projection"].contenders[0].build(problem)

    def step():
        codes = run.step().clone()
        codes.view(-1)[::100] += 1
        return codes

    return Run(step, run.read)


def broken(problem) -> Run:
    raise RuntimeError("no such | thing\nand more")


def large(problem) -> Run:
    """Allocate 64 MiB in each call."""
    size = 64 * MIB if len(problem["codebook"]) > 64 else 1
    return Run(lambda: torch.ones(size, dtype=torch.uint8), lambda result: {})


def ended(problem) -> Run:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.fixture
def with_contender(monkeypatch):
    """Replace the contenders of a case, except ours and the lower bound, with one."""

    def replace(contender, case="random_projection"):
        kept = [c for c in CASES[case].contenders if c.name in (OURS, FLOOR)]
        changed = dataclasses.replace(CASES[case], contenders=(*kept, contender))
        monkeypatch.setitem(CASES, case, changed)

    return replace


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """Run every case once; return the status and the folder of the output."""
    folder = tmp_path_factory.mktemp("bench")
    files = ["--json", str(folder / "b.json"), "--plot", str(folder / "b.png")]
    status = main(["bench", *ONE_THREAD, *files])
    return status, folder


@pytest.mark.slow
def test_every_case_runs_and_agrees(everything):
    status, folder = everything
    assert status == 0
    content = json.loads((folder / "b.json").read_text())
    assert [case["name"] for case in content["cases"]] == list(CASES)
    for case in content["cases"]:
        for each in case["contenders"]:
            label = f"{case['name']}, {each['what']}"
            if each["note"] == "not installed":
                continue
            assert each["note"] is None, label
            assert len(each["samples_s"]) == 2, label
            assert each["extra_peak_bytes"] is not None, label
            if each["name"] != FLOOR:
                assert each["agreement"]["agrees"], label
            if each["name"] == OURS:
                assert each["ratio_to_ours"] == 1, label
    assert content["machine"]["cores"] and content["versions"]["torch"]
    assert content["setting"]["threads"] == 1


@pytest.mark.slow
def test_installed_toolkits_are_measured(everything):
    content = json.loads((everything[1] / "b.json").read_text())
    notes = {e["what"]: e["note"] for c in content["cases"] for e in c["contenders"]}
    for what, module in [("SpeechBrain", "speechbrain"), ("ESPnet", "espnet2")]:
        assert (notes[what] is None) == (find_spec(module) is not None)


@pytest.mark.slow
def test_sweeps_cover_frames_codebook_size_and_bits(everything):
    content = json.loads((everything[1] / "b.json").read_text())
    sizes = {sweep["size"]: sweep["lines"] for sweep in content["sweeps"]}
    assert set(sizes) == {"frames", "codebook_size", "bits"}
    for lines in sizes.values():
        ours = next(line for line in lines if line["name"] == OURS)
        assert len(ours["values"]) == len(ours["median_s"]) == 2


@pytest.mark.slow
def test_output_files_are_complete(everything):
    folder = everything[1]
    picture = (folder / "b.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and picture.endswith(b"IEND\xaeB`\x82")
    assert sorted(path.name for path in folder.iterdir()) == ["b.json", "b.png"]


def test_the_table_is_plain_text_and_valid_markdown(capsys, with_contender):
    with_contender(Contender(PLAIN, "elsewhere", wrong, module="no_such_package"))
    assert main(["bench", "random_projection", *ONE_THREAD]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len({len(line) for line in table}) == 1
    assert re.fullmatch(r"(\| -+:? )+\|", table[1])
    missing = next(line for line in table if "elsewhere" in line)
    assert "not installed" in missing


def test_a_wrong_result_is_reported_and_fails(capsys, with_contender):
    with_contender(Contender(PLAIN, "wrong", wrong))
    assert main(["bench", "random_projection", *ONE_THREAD]) == 1
    out, err = capsys.readouterr()
    assert re.search(r"\| wrong .* NO! codes 97.5 %", out)
    assert "All results agree" not in out
    assert "!!! random_projection: wrong DISAGREES" in err


@pytest.mark.parametrize(
    ("build", "note"),
    [(broken, "RuntimeError: no such / thing"), (ended, "out of memory")],
    ids=["raises", "is killed"],
)
def test_other_contenders_run_after_a_failure(capsys, with_contender, build, note):
    with_contender(Contender(PLAIN, "broken", build))
    assert main(["bench", "random_projection", *ONE_THREAD]) == 0
    table = capsys.readouterr().out
    assert re.search(rf"\| broken .* {note} ", table)
    assert re.search(r"\| ours +\| +\d", table)


def test_a_failure_of_ours_fails(capsys, with_contender, monkeypatch):
    with_contender(Contender(PLAIN, "plain", wrong, module="no_such_package"))
    case = CASES["random_projection"]
    failing = (Contender(OURS, "ours", broken), *case.contenders[1:])
    changed = dataclasses.replace(case, contenders=failing)
    monkeypatch.setitem(CASES, "random_projection", changed)
    assert main(["bench", "random_projection", *ONE_THREAD]) == 1
    assert "ours FAILED: RuntimeError" in capsys.readouterr().err


def test_contenders_are_interleaved():
    order = []

    def build(name):
        return lambda problem: Run(lambda: order.append(name), lambda result: {})

    contenders = tuple(Contender(name, name, build(name)) for name in "ABC")
    case = dataclasses.replace(CASES["vq"], contenders=contenders)
    timings = time_interleaved(case, list("ABC"), case.quick, SETTING)
    # One comparison, two warm-up rounds and two timed rounds.
    assert "".join(order) == "ABC" * 5
    assert {len(timing.samples_s) for timing in timings.values()} == {2}


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be reset"
)
def test_memory_is_the_peak_of_the_call():
    def step():
        # A peak of 96 MiB, of which nothing is returned.
        first = torch.ones(64 * MIB, dtype=torch.uint8)
        second = torch.ones(32 * MIB, dtype=torch.uint8)
        return int(first[0] + second[0])

    torch.ones(200 * MIB, dtype=torch.uint8)
    for _ in range(2):
        assert 95 < extra_peak_bytes("cpu", step) / MIB < 105


def test_memory_of_a_contender_in_its_own_process():
    case = CASES["random_projection"]
    contender = Contender(PLAIN, "large", large)
    case = dataclasses.replace(case, contenders=(contender,))
    sizes = {**case.quick, "codebook_size": 128}
    isolation = Isolation(["torch"], threads=1)
    alone = isolation.call(measure_alone, case, PLAIN, sizes, SETTING)
    assert 63 < alone.extra_peak_bytes / MIB < 70
    assert len(alone.samples_s) == 2


def test_an_error_is_returned_from_its_process():
    isolation = Isolation(["torch"], threads=1)
    with pytest.raises(ChildError, match="^RuntimeError: no such"):
        isolation.call(broken, None)


class TestAgreement:
    def compare(self, got, expected, tolerance=1e-4) -> Agreement:
        agreement = Agreement()
        compare({"a": got}, {"a": expected}, tolerance, agreement)
        return agreement

    def test_near_ties_count_as_agreement(self):
        expected = torch.zeros(10_000, dtype=torch.int64)
        got = expected.clone()
        got[:5] = 1
        assert self.compare(got, expected).agrees
        got[:50] = 1
        assert not self.compare(got, expected).agrees

    def test_floats_are_compared_relative_to_the_largest_value(self):
        expected = torch.tensor([[1000.0, 0.0]])
        assert self.compare(expected + 0.05, expected).agrees
        found = self.compare(expected + 0.5, expected)
        assert not found.agrees
        assert found.max_difference == pytest.approx(5e-4)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_values_that_are_not_finite_disagree(self, value):
        assert not self.compare(torch.tensor([value]), torch.ones(1)).agrees

    def test_another_shape_disagrees(self):
        assert not self.compare(torch.ones(2, 1), torch.ones(1, 2)).agrees


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rqv"], "unknown workload: rqv; known are random_projection, bsq"),
        (["--json", "nowhere/b.json"], "nowhere/b.json cannot be written"),
        (["--plot", "b.txt"], "--plot writes .png, .pdf or .svg, got b.txt"),
    ],
)
def test_invalid_arguments_are_refused_before_measuring(capsys, arguments, message):
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert not out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused(capsys):
    assert main(["bench", "--device", "cuda"]) == 2
    assert "torch finds no GPU" in capsys.readouterr().err


def test_a_plot_needs_matplotlib(capsys, monkeypatch):
    from sb_espnet_vq.cli import bench

    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    assert main(["bench", "--plot", "b.png"]) == 2
    assert "sb_espnet_vq[bench]" in capsys.readouterr().err
