"""Least-squares refit of the codebooks of a trained codec, as a new run."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.codec.model import Codec
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.evaluation.intervals import summarize
from sb_espnet_vq.evaluation.metrics.audio import Audio
from sb_espnet_vq.evaluation.metrics.table import compare
from sb_espnet_vq.quantizers.refit import check_refit, refit
from sb_espnet_vq.training.data import make_loader, read_datasets
from sb_espnet_vq.training.trained import best_checkpoint, load_trained, read_run

# The codec's recipe selects its best checkpoint by this metric.
_MIN_KEY = "mel"
_CODEC = "codec"
_METRICS = ("si_sdr", "mel_distance")
REPORT = "refit.json"

Rows = list[dict[str, Any]]


def refit_run(
    folder: str | Path,
    output: str | Path,
    log: Callable[[str], None],
    data_folder: str | Path | None = None,
    rounds: int = 5,
    beam: int = 1,
    max_frames: int = 500_000,
) -> Rows:
    """Refit the codebooks of a run of recipes/codec and write a new run.

    Encoder and decoder do not change. Codebooks are refitted for all bandwidths of the
    run together, on the encoder's frames of its training set. The new folder has the
    run's hyperparameters, manifests and best checkpoint, with the refitted codec in
    it, and refit.json; it is written whole or not at all.

    Arguments
    ---------
    folder : str or Path
        Output folder of the run, which does not change.
    output : str or Path
        The new folder, which must not exist.
    log : callable
        Called with lines of progress.
    data_folder : str or Path, optional
        Where the recordings are now; by default where they were in training.
    rounds, beam
        As in `quantizers.refit.refit`.
    max_frames : int
        At most so many training frames, held in memory.

    Returns
    -------
    list of dict
        For each beam (1 and ``beam``), bandwidth and codec (``before``, ``after``),
        metrics of held-out speech.

    Raises
    ------
    CheckpointError, CorpusError
        If the run or its data cannot be read.
    ConfigError
        If the output exists, or the codebooks cannot be refitted.
    """
    output = Path(output)
    if os.path.lexists(output):
        raise ConfigError(f"{output} exists; give another --output")
    best = best_checkpoint(folder, _MIN_KEY)
    hparams = read_run(folder) | {"output_folder": str(folder)}
    if data_folder is not None:
        hparams["data_folder"] = str(data_folder)
    codec: Codec = load_trained(folder, _CODEC, _MIN_KEY)
    check_refit(codec.quantizer, beam)
    datasets = read_datasets(hparams)
    used = sorted({codec.codebooks_for(each) for each in hparams["bandwidths"]})
    signals = list(_signals(make_loader(datasets["test"], hparams)))
    beams = sorted({1, beam})
    rows = [_measure(codec, signals, "before", n, b) for b in beams for n in used]
    chunks = _frames(codec, make_loader(datasets["train"], hparams), max_frames)
    log(f"refitting to {sum(map(len, chunks))} training frames")
    errors = refit(codec.quantizer, chunks, rounds, beam, used)
    log("relative errors: " + ", ".join(f"{each:.4f}" for each in errors))
    rows += [_measure(codec, signals, "after", n, b) for b in beams for n in used]
    report = {"run": str(folder), "beam": beam, "errors": errors, "results": rows}
    _write(Path(folder), best.path, output, codec, report)
    return rows


@torch.no_grad()
def _frames(codec: Codec, batches: Any, most: int) -> list[Tensor]:
    """Return the encoder's frames of training speech, a chunk for each batch."""
    chunks: list[Tensor] = []
    for batch in batches:
        frames, mask = codec.frames(batch.signals, batch.samples)
        valid = frames.isfinite().all(-1)
        valid = valid if mask is None else valid & mask
        left = most - sum(map(len, chunks))
        if left <= 0:
            break
        chunks.append(frames[valid][:left])
    return chunks


def _signals(batches: Any) -> Iterator[Tensor]:
    for batch in batches:
        rows = zip(batch.signals, batch.samples, strict=True)
        yield from (signal[:count] for signal, count in rows)


@torch.no_grad()
def _measure(
    codec: Codec, signals: Sequence[Tensor], name: str, n_codebooks: int, beam: int
) -> dict[str, Any]:
    """Return metrics of held-out speech with the first codebooks."""
    kbps = codec.bitrate(n_codebooks)
    metrics, error, power, count = [], 0.0, [], 0
    for signal in signals:
        codes = codec.encode(signal[None], bandwidth=kbps, beam=beam)
        audio = codec.decode(codes)[0, : len(signal)]
        pair = Audio(audio, codec.sample_rate), Audio(signal, codec.sample_rate)
        metrics.append(compare(*pair, _METRICS))
        frames, _ = codec.frames(signal[None])
        frames = frames[0].double()
        error += float((frames - codec.quantizer.decode(codes)[0]).square().sum())
        power.append(torch.stack([frames.sum(0), frames.square().sum(0)]))
        count += len(frames)
    total, squares = torch.stack(power).sum(0)
    variance = float((squares - total.square() / count).sum())
    return {
        "codec": name,
        "beam": beam,
        "kbps": kbps,
        "snr": 10 * float(torch.tensor(variance / error).log10()),
        **summarize(metrics).means,
    }


def _write(
    folder: Path, checkpoint: Path, output: Path, codec: Codec, report: dict[str, Any]
) -> None:
    """Write the new run under another name, and rename it when it is complete."""
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        run = aside / "run"
        saved = run / "save" / checkpoint.name
        shutil.copytree(checkpoint, saved)
        torch.save(codec.state_dict(), saved / f"{_CODEC}.ckpt")
        for file in ("hyperparams.yaml", "train.csv", "valid.csv", "test.csv"):
            shutil.copyfile(folder / file, run / file)
        (run / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        # Fails if another process has created the folder, unless it is empty.
        os.rename(run, output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
