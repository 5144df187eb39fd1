"""Tables, plots and the page of `sbvq compare`, from results that are stored."""

import csv
import json

import pytest

pytest.importorskip("matplotlib")

from sb_espnet_vq.compare.cells import Setting, steps_of
from sb_espnet_vq.compare.grid import read_grid
from sb_espnet_vq.compare.page import write_page
from sb_espnet_vq.compare.table import average, groups, read_rows

GRID = """
seeds: [1, 2]
quantizers:
    rvq:
        bitrates: {0.4: {n_codebooks: 1}, 0.8: {n_codebooks: 2}}
    lfq:
        bitrates: {0.4: {codebook_size: 16}}
"""
ABOUT = {
    "machine": {
        "processor": "a processor",
        "cores": 2,
        "memory_gib": 4.0,
        "system": "a system",
        "gpu": None,
    },
    "versions": {"sb_espnet_vq": "0.0", "torch": "2.0", "espnet": None},
    "command": "sbvq compare grid.yaml --out out",
    "jobs": 2,
    "call": {"cells": 7, "seconds": 90.0},
    "threads": 1,
}


def codec_results(seed, bitrate):
    measured = {
        "si_sdr": 10 * bitrate + seed,
        "dnsmos": 2.0,
        "dwer": None if seed == 2 and bitrate == 0.8 else 0.25,
        "bitrate": bitrate,
        "used_codes": 8.0,
        "real_time_factor": 0.01,
        "novel_metric": 1.0,
    }
    return {
        "bandwidths": [
            {
                "trained": measured,
                "untrained": measured | {"si_sdr": -40.0},
                "intervals": {"si_sdr": [10 * bitrate, 10 * bitrate + 3], "dwer": None},
            }
        ],
        "recordings": {"dnsmos": 3.5},
        "missing_metrics": {"pesq": "pip install 'sb_espnet_vq[metrics]'"},
        "codebook_size": 16,
        "parameters": 1000,
        "seconds": {"wall": 10.0 * seed, "cpu": 12.0},
    }


def ctc_results(error):
    return {
        "test": {"word_error": error, "word_error_interval": [0.1, 0.9]},
        "seconds": {"wall": 5.0, "cpu": 6.0},
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A grid and its folder; the recognizer of lfq with seed 2 has not finished."""
    tmp_path = tmp_path_factory.mktemp("compare")
    file = tmp_path / "grid.yaml"
    file.write_text(GRID)
    grid = read_grid(file)
    setting = Setting(tmp_path / "out", "cpu", threads=1, asr=False)
    for cell in grid.cells:
        cost = {}
        for step in steps_of(cell, grid, setting):
            if step.recipe == "ctc" and (cell.name, cell.seed) == ("lfq", 2):
                continue
            step.folder.mkdir(parents=True)
            results = (
                codec_results(cell.seed, cell.bitrate)
                if step.recipe == "codec"
                else ctc_results(0.5 if cell.name else 0.125)
            )
            (step.folder / "results.json").write_text(json.dumps(results))
            cost[step.recipe] = {"peak_bytes": 2**20 * 100}
        (setting.folder / cell.id / "cost.json").write_text(json.dumps(cost))
    return grid, setting


@pytest.fixture(scope="module")
def written(finished):
    """The folder with tables, plots and page."""
    grid, setting = finished
    write_page(grid, setting, ABOUT, {"cells/lfq/0.4/2": "ctc ended with status 1"})
    return setting.folder


def test_rows_are_read_and_averaged_over_seeds(finished):
    rows = read_rows(*finished)
    assert [row.status for row in rows] == ["finished"] * 7 + ["unfinished"]
    grouped = groups(rows)
    both = grouped["rvq", 0.4]
    assert average(both, "si_sdr") == pytest.approx((5.5, 5.5 - 0.5**0.5, 6.207107, 2))
    # The interval of one seed is that over utterances.
    assert average(both[:1], "si_sdr") == (5.0, 4.0, 7.0, 1)
    assert average(both[:1], "token_word_error") == (0.5, 0.1, 0.9, 1)
    assert average(both[:1], "dwer") == (0.25, None, None, 1)
    assert average(both, "pesq") is None
    assert average(both, "used_share").value == 0.5
    assert average(both, "codec_seconds", "cost").value == 15
    # The codec of an unfinished cell is shown.
    assert average(grouped["lfq", 0.4], "si_sdr").seeds == 2
    assert average(grouped["lfq", 0.4], "token_word_error").seeds == 1


def test_the_tables_have_a_row_for_each_cell(written):
    with (written / "table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 8
    third = table[2]
    assert [third[key] for key in list(third)[:4]] == ["rvq", "0.4", "1", "finished"]
    assert third["si_sdr"] == "5.0"
    assert (third["si_sdr_low"], third["si_sdr_high"]) == ("4.0", "7.0")
    assert third["token_word_error"] == "0.5"
    assert third["pesq"] == ""
    assert third["novel_metric"] == "1.0"
    # What depends on the machine is in a table of its own.
    assert not any("second" in key or "real_time" in key for key in third)
    with (written / "cost.csv").open(newline="") as file:
        cost = list(csv.DictReader(file))[2]
    assert (cost["codec_seconds"], cost["real_time_factor"]) == ("10.0", "0.01")
    assert cost["codec_peak_mib"] == "100.0"
    everything = json.loads((written / "compare.json").read_text())
    assert everything["seeds"] == [1, 2]
    assert everything["cells"][2]["metrics"]["si_sdr"] == 5


def test_the_page_says_what_was_run_where_and_what_is_missing(written):
    page = (written / "README.md").read_text()
    assert "7 of 8 cells finished" in page
    assert "- lfq, 0.4 kbit/s, seed 2: ctc ended with status 1" in page
    assert "5.50 ± 0.71" in page
    assert "0.250 (1 of 2 seeds)" in page
    assert "word error of 0.125" in page
    assert "- PESQ (MOS): pip install 'sb_espnet_vq[metrics]'" in page
    assert "seeds 1 and 2" in page
    assert "7 cells in 1.5 minutes, 2 at a time" in page
    assert "a processor, 2 cores" in page
    assert "torch 2.0" in page and "espnet" not in page.partition("torch 2.0")[2]
    assert "sbvq compare grid.yaml --out out" in page
    for picture in ("quality.png", "metrics.png", "cost.png"):
        assert f"({picture})" in page
        assert (written / picture).read_bytes().startswith(b"\x89PNG")


def test_plots_draw_intervals_and_the_recognizer_without_a_codec(finished, monkeypatch):
    from sb_espnet_vq.compare import draw

    figures = []
    monkeypatch.setattr(draw, "save_figure", lambda figure, _: figures.append(figure))
    rows = read_rows(*finished)
    draw.draw_quality(None, rows, "title", "spread")
    draw.draw_metrics(None, rows, "title", "spread")
    draw.draw_cost(None, rows, "title", "spread")
    quality, every, cost = ([a for a in f.axes if a.axison] for f in figures)
    names = [axes.get_title().partition(" against")[0] for axes in quality]
    assert names == [
        "SI-SDR (dB)",
        "dWER (errors per word)",
        "token WER (errors per word)",
        "share of codes used",
    ]
    bars = quality[0].containers
    assert [bar.get_label() for bar in bars] == ["rvq", "lfq"]
    # Two bitrates of rvq, and their intervals.
    (segments,) = (lines.get_segments() for lines in bars[0].lines[2])
    assert [tuple(s[:, 1].round(2)) for s in segments] == [(4.79, 6.21), (8.79, 10.21)]
    assert [_dashed(axes) for axes in quality] == [[], [], [0.125], []]
    assert [axes.get_title() for axes in every] == [
        f"{name}, test speech" for name in (names[0], "DNSMOS (MOS)", *names[1:])
    ]
    assert [tick.get_text() for tick in every[0].get_yticklabels()] == ["rvq", "lfq"]
    assert [bar.get_label() for bar in every[0].containers] == [
        "0.4 kbit/s",
        "0.8 kbit/s",
    ]
    assert every[1].lines[-1].get_xdata()[0] == 3.5
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in [*quality, *cost])
    assert len(cost) == 6


def _dashed(axes):
    return [x.get_ydata()[0] for x in axes.lines if x.get_linestyle() == "--"]
