"""Checks and records of swaps when a SpeechBrain Brain starts.

A Brain refuses to resume from checkpoints of other swaps, records its own swaps in the
run folder, and warns about swaps without effect.
"""

import functools
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from sb_espnet_vq.launcher.swaps import Swap
from sb_espnet_vq.utils.import_hooks import AfterImport

logger = logging.getLogger("sb_espnet_vq.run")

# File in the folder of the checkpoints, with one line for each swap.
RECORD = "swaps.txt"


def install(hook: AfterImport, swaps: Sequence[Swap]) -> None:
    """Extend Brain once SpeechBrain is imported.

    Arguments
    ---------
    hook : AfterImport
        Calls back after imports.
    swaps : sequence of Swap
        Swaps of this run; may be empty.
    """
    hook.call("speechbrain.core", lambda core: _watch(core, swaps))


def _watch(core: ModuleType, swaps: Sequence[Swap]) -> None:
    # Recipes rarely override these two methods.
    for name in ("fit", "evaluate"):
        setattr(core.Brain, name, _checked(getattr(core.Brain, name), swaps))


def _checked(method: Any, swaps: Sequence[Swap]) -> Any:
    @functools.wraps(method)
    def start(brain, *args, **kwargs):
        if brain.checkpointer is not None:
            _refuse_other_swaps(brain.checkpointer, swaps)
        if _is_main_process():
            _record_swaps(brain, swaps)
        return method(brain, *args, **kwargs)

    return start


def _refuse_other_swaps(checkpointer: Any, swaps: Sequence[Swap]) -> None:
    folder = Path(checkpointer.checkpoints_dir)
    if not checkpointer.list_checkpoints():
        return
    record = folder / RECORD
    before = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    now = _lines(swaps)
    if before != now:
        sys.exit(
            f"sb_espnet_vq.run: the checkpoints in {folder} were trained with "
            f"{_describe(before)}, this run has {_describe(now)}; use the same swaps "
            "or another output folder"
        )


def _record_swaps(brain: Any, swaps: Sequence[Swap]) -> None:
    for swap in swaps:
        logger.info("--swap %s", swap.canonical)
        if not swap.was_built():
            logger.warning(
                "--swap %s has no effect in this run: no %s has been built yet",
                swap.text,
                swap.path,
            )
    if brain.checkpointer is not None:
        record = Path(brain.checkpointer.checkpoints_dir, RECORD)
        # An earlier run without a checkpoint may have written another record.
        if swaps or record.exists():
            record.parent.mkdir(parents=True, exist_ok=True)
            _write(record, "".join(f"{line}\n" for line in _lines(swaps)))
    output = getattr(getattr(brain, "hparams", None), "output_folder", None)
    saved = Path(output, "hyperparams.yaml") if output else None
    if swaps and saved is not None and saved.is_file():
        _prepend(saved, "".join(f"# --swap {swap.canonical}\n" for swap in swaps))


def _lines(swaps: Sequence[Swap]) -> list[str]:
    """Return the swaps that change the model."""
    return sorted(swap.canonical for swap in swaps if not swap.is_original)


def _describe(lines: Sequence[str]) -> str:
    return " ".join(f"--swap {line}" for line in lines) or "no swap"


def _prepend(path: Path, lines: str) -> None:
    text = path.read_text(encoding="utf-8")
    if not text.startswith(lines):
        _write(path, lines + text)


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _is_main_process() -> bool:
    return bool(sys.modules["speechbrain.utils.distributed"].if_main_process())
