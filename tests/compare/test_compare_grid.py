"""The grid of `sbvq compare`: what is read, and what is refused."""

import pytest

from sb_espnet_vq.compare.cells import Setting, steps_of
from sb_espnet_vq.compare.grid import find_grid, read_grid
from sb_espnet_vq.compare.stored import store, stored_threads
from sb_espnet_vq.errors import ConfigError

GRID = """
seeds: [3, 1]
options:
    both: {sample_rate: 8000}
    codec: {dim: 8, codebook_size: 16}
    ctc: {hidden_size: 8}
quantizers:
    rvq:
        bitrates:
            0.4: {n_codebooks: 1}
            0.8: {n_codebooks: 2}
    rotated:
        quantizer: rvq
        n_codebooks: 1
        quantizer_conf: {estimator: rotation}
        bitrates:
            0.4: {codebook_size: 16}
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "grid.yaml"
        file.write_text(text)
        return file

    return write


def test_cells_are_quantizers_bitrates_and_seeds(write):
    grid = read_grid(write(GRID))
    assert [cell.id for cell in grid.cells] == [
        "recognizers/3",
        "recognizers/1",
        "cells/rvq/0.4/3",
        "cells/rvq/0.4/1",
        "cells/rvq/0.8/3",
        "cells/rvq/0.8/1",
        "cells/rotated/0.4/3",
        "cells/rotated/0.4/1",
    ]
    assert grid.cells[4].codec == {
        "sample_rate": 8000,
        "dim": 8,
        "codebook_size": 16,
        "quantizer": "rvq",
        "n_codebooks": 2,
        "bandwidths": [0.8],
    }
    assert grid.cells[6].codec["quantizer"] == "rvq"
    assert grid.cells[6].codec["quantizer_conf"] == {"estimator": "rotation"}
    assert all(
        cell.ctc == {"sample_rate": 8000, "hidden_size": 8} for cell in grid.cells
    )


def test_options_of_the_command_line_reach_the_recipes_that_have_them(write):
    grid = read_grid(write(GRID), {"dim": 4, "manifest": "m.csv"}, seeds=[7])
    assert grid.seeds == [7]
    assert grid.cells[1].codec["dim"] == 4
    assert grid.cells[1].codec["manifest"] == grid.cells[1].ctc["manifest"] == "m.csv"
    assert "dim" not in grid.cells[1].ctc


def test_some_quantizers_of_a_grid_can_be_chosen(write):
    grid = read_grid(write(GRID), names=["rotated"])
    assert {cell.name for cell in grid.cells} == {None, "rotated"}
    with pytest.raises(ConfigError, match="unknown key 'nope'; known are rotated, rvq"):
        read_grid(write(GRID), names=["rotated", "nope"])


def test_a_cell_trains_a_codec_and_a_recognizer_of_its_tokens(write, tmp_path):
    grid = read_grid(write(GRID))
    setting = Setting(tmp_path, "cpu", threads=1, asr=True)
    (alone,) = steps_of(grid.cells[0], grid, setting)
    assert alone.folder == tmp_path / "recognizers/3/ctc"
    codec, ctc = steps_of(grid.cells[2], grid, setting)
    assert codec.options["asr"] == str(alone.folder)
    assert ctc.options["tokens"] == str(codec.folder)
    assert alone.options["seed"] == codec.options["seed"] == ctc.options["seed"] == 3
    words = codec.command("cuda")
    assert words[words.index("--bandwidths") + 1] == "[0.4]"
    assert words[words.index("--output_folder") + 1] == str(codec.folder)
    assert "--device=cuda" in words


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("seeds: [3, 1]", "seeds: [3, 3]", "given twice"),
        ("seeds: [3, 1]", "seeds: 3", "list of numbers"),
        ("seeds: [3, 1]", "seeds: [3, -1]", "list of numbers"),
        ("seeds:", "sedes:", "unknown key 'sedes'"),
        ("    ctc:", "    asr:", "unknown key 'asr'"),
        ("{dim: 8,", "{seed: 8,", "seed is set by the comparison"),
        ("{n_codebooks: 2}", "{bandwidths: [1]}", "bandwidths is set by"),
        ("{n_codebooks: 2}", "2", "must map keys to values, got 2"),
        ("0.8:", "high:", "number above 0"),
        ("    rvq:", "    ../rvq:", "must consist of letters"),
        (
            "        bitrates:\n            0.4: {codebook_size: 16}",
            "",
            "bitrates must",
        ),
        ("quantizers:", "codec: none\nquantizers:", "no hparams 'none'"),
        ("quantizers:", "ctc: none.yaml\nquantizers:", "no such file"),
        ("seeds: [3, 1]", "seeds: [3, 1", "not YAML"),
    ],
)
def test_a_grid_with_an_error_is_refused(write, old, new, message):
    assert old in GRID
    with pytest.raises(ConfigError, match=message):
        read_grid(write(GRID.replace(old, new, 1)))


def test_an_option_that_the_grid_sets_is_refused_on_the_command_line(write):
    with pytest.raises(ConfigError, match="--n_codebooks: the grid sets it"):
        read_grid(write(GRID), {"n_codebooks": 2})


def test_unknown_grids_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="there are fsdd"):
        find_grid("librispeech")
    with pytest.raises(ConfigError, match="no such grid file"):
        read_grid(find_grid(str(tmp_path / "mine.yaml")))


def test_the_shipped_grid_compares_eight_quantizers_at_two_bitrates():
    grid = read_grid(find_grid("fsdd"))
    at = {}
    for cell in grid.cells[len(grid.seeds) :]:
        at.setdefault(cell.name, set()).add(cell.bitrate)
    assert sum(len(bitrates) > 1 for bitrates in at.values()) >= 8


def test_a_stored_grid_can_only_grow(write, tmp_path):
    folder = tmp_path / "out"
    setting = Setting(folder, "cpu", threads=2, asr=False)
    assert stored_threads(folder) is None
    store(read_grid(write(GRID), seeds=[1]), setting)
    store(read_grid(write(GRID)), setting)
    assert stored_threads(folder) == 2
    stored = (folder / "grid.json").read_bytes()
    for changed, message in [
        (read_grid(write(GRID), seeds=[3]), "recognizers/1, which is not in the grid"),
        (read_grid(write(GRID), {"dim": 4}), "codec: dim was 8, now 4"),
        (read_grid(write(GRID.replace("hidden_size: 8", "dim: 9"))), "ctc: hidden_si"),
    ]:
        with pytest.raises(ConfigError, match=message):
            store(changed, setting)
    for other, message in [
        (setting._replace(device="cuda"), "--device cpu, not cuda"),
        (setting._replace(threads=1), "--threads 2, not 1"),
    ]:
        with pytest.raises(ConfigError, match=message):
            store(read_grid(write(GRID)), other)
    assert (folder / "grid.json").read_bytes() == stored
