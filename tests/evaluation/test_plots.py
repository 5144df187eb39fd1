"""Plots and tables of results."""

import struct

import pytest

from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.utils.files import atomic_file


def draw_everything(path):
    plots = pytest.importorskip("sb_espnet_vq.evaluation.plots")
    pytest.importorskip("matplotlib")
    figure, axes = plots.new_figure(3)
    curve = plots.Curve("loss", "nat", [3.0, 2.0], [3.1, 2.2], (4.0, "guessing"))
    plots.draw_curve(axes[0], curve)
    plots.draw_usage(axes[1], [5, 0, 1, 10], perplexity=2.1)
    plots.draw_bars(
        axes[2], {"800": {"a": [0.9, 0.8], "b": [0.7]}}, "accuracy", "probe"
    )
    plots.save_figure(figure, path)
    return axes


def test_figures_need_no_display(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    axes = draw_everything(tmp_path / "figure.png")
    content = (tmp_path / "figure.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert min(struct.unpack(">II", content[16:24])) > 800
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]
    assert all(axis.get_xlabel() and axis.get_ylabel() for axis in axes[:2])
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert labels[-1] == "guessing: 4.00"


def test_axes_have_plain_numbers_and_integer_epochs():
    plots = pytest.importorskip("sb_espnet_vq.evaluation.plots")
    pytest.importorskip("matplotlib")
    figure, axes = plots.new_figure(2)
    plots.draw_curve(axes[0], plots.Curve("loss", "nat", [3.0] * 20, [3.1] * 20))
    plots.draw_usage(axes[1], [30, 20, 20, 10], perplexity=3.8)
    figure.canvas.draw()
    assert all(tick == int(tick) for tick in axes[0].get_xticks())
    labels = [text.get_text() for text in axes[1].get_yticklabels(minor=True)]
    assert {"20", "30"} <= set(labels) and not any("times" in x for x in labels)


def test_a_run_of_one_epoch_and_an_unused_codebook_can_be_drawn(tmp_path):
    plots = pytest.importorskip("sb_espnet_vq.evaluation.plots")
    pytest.importorskip("matplotlib")
    figure, axes = plots.new_figure(2)
    plots.draw_curve(axes[0], plots.Curve("loss", "nat", [3.0], [3.1]))
    plots.draw_usage(axes[1], [0, 0], perplexity=0.0)
    plots.save_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 0


@pytest.mark.parametrize("name", ["$x$", "$\\bad$", "a$b"])
def test_dollar_signs_in_names_are_not_parsed_as_math(tmp_path, name):
    plots = pytest.importorskip("sb_espnet_vq.evaluation.plots")
    pytest.importorskip("matplotlib")
    figure, _ = plots.new_figure(2, f"{name}, test speech")
    plots.save_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), atomic_file(path) as partial:
        partial.write_text("half of the n")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_columns_are_aligned():
    table = text_table([["a", 1.0], ["longer", 23]], ["name", "value"])
    assert table.splitlines() == [
        "name    value",
        "------  -----",
        "a       1.000",
        "longer     23",
    ]
