"""Checks of a grid before anything is trained or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sb_espnet_vq.compare.grid import Cell, Grid, Options
from sb_espnet_vq.errors import ConfigError, VQError
from sb_espnet_vq.training.settings import load_hparams

# Share by which a bitrate may differ from that of the grid: FSQ cannot have any number
# of codes.
_TOLERANCE = 0.1


def check_grid(grid: Grid) -> bool:
    """Build the codec of each cell.

    Returns
    -------
    bool
        Whether the configuration of the codec has an option ``asr``, for a recognizer.

    Raises
    ------
    ConfigError
        If an option is invalid, a bitrate is not that of the grid or leaves codebooks
        unused, or the recipes differ in the sample rate.
    """
    first = grid.cells[0].seed
    asr = False
    for cell in grid.cells:
        if cell.seed != first:
            continue
        if cell.name is None:
            rate = _load(grid.ctc, cell.ctc, cell)["sample_rate"]
            continue
        hparams = _load(grid.codec, cell.codec, cell)
        _check_bitrate(hparams["codec"], cell)
        if hparams["sample_rate"] != rate:
            raise ConfigError(
                f"{cell.title}: the codec has a sample rate of "
                f"{hparams['sample_rate']}, the recognizer of {rate}; set sample_rate "
                "in options: both"
            )
        asr = "asr" in hparams
    return asr


def _load(file: Path, options: Options, cell: Cell) -> dict[str, Any]:
    # Nothing is written without a checkpointer.
    own = {"seed": cell.seed, "checkpointer": None}
    try:
        return load_hparams(file, options | own)
    except VQError as error:
        raise ConfigError(f"{cell.title}: {error}") from None


def _check_bitrate(codec: Any, cell: Cell) -> None:
    wanted = cell.bitrate or 0.0
    used, total = codec.codebooks_for(wanted), len(codec.quantizer.codebook_sizes)
    actual = codec.bitrate(used)
    if abs(actual - wanted) > _TOLERANCE * wanted:
        raise ConfigError(
            f"{cell.title}: with these options the codec has {actual:.3g} kbit/s: "
            f"{codec.quantizer.codebook_sizes} codes at {codec.frame_rate:g} frames/s"
        )
    if used < total:
        # They would not be trained, but a recognizer of the tokens would get them.
        raise ConfigError(
            f"{cell.title}: the codec has {total} codebooks, but {actual:.3g} kbit/s "
            f"are those of {used}; set n_codebooks: {used}"
        )
