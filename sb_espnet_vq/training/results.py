"""The report of a recipe: results.json, results.png, tables and summary lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.label_purity import purity_table
from sb_espnet_vq.evaluation.probe_report import draw_probe, probe_table
from sb_espnet_vq.utils.files import write_text

Results = dict[str, Any]
# Draws a panel: (axes, results).
Panel = Callable[[Any, Results], None]


def training_results(
    brain: Any, datasets: Mapping[str, Any], unit: str = "utterances"
) -> Results:
    """Return the results that all recipes report.

    Arguments
    ---------
    brain : ResumableBrain
        After `train`, with its best checkpoint loaded.
    datasets : dict[str, DynamicItemDataset]
        train, valid and test.
    unit : str
        What an item of the datasets is; the result with this key is their number.

    Returns
    -------
    dict
        JSON-serializable values.
    """
    return {
        unit: {part: len(data) for part, data in datasets.items()},
        "minutes": {part: minutes(data) for part, data in datasets.items()},
        "steps": brain.epochs[-1]["step"],
        # Loading a checkpoint resets the record to its epoch.
        "best_epoch": brain.hparams.record.epochs[-1]["epoch"],
        "epochs": brain.epochs,
    } | _how_made(brain)


def _how_made(brain: Any) -> Results:
    """Return the time of training, or which run was evaluated on what."""
    evaluated = getattr(brain.hparams, "evaluated", None)
    return {"evaluated": evaluated} if evaluated else {"seconds": brain.seconds}


def minutes(dataset: Any) -> float:
    """Return the duration of a dataset, whose rows have a `duration` in seconds."""
    return sum(dataset.data[name]["duration"] for name in dataset.data_ids) / 60


def count_parameters(modules: Iterable[Any]) -> int:
    """Return the number of parameters of some modules."""
    return sum(p.numel() for module in modules for p in module.parameters())


def write_report(
    results: Results,
    folder: str | Path,
    title: str,
    tables: Sequence[str],
    panels: Sequence[Panel],
    files: Mapping[str, str] | None = None,
) -> None:
    """Write results.json and results.png, and print the tables.

    If the results contain label purities (`label_purity`) or a linear probe (`probe`),
    their tables and the panel of the probe come last. A result that is a dict with the
    key `left_out` could not be computed, and its reason is printed.

    Arguments
    ---------
    results : dict
        JSON-serializable values.
    folder : str or Path
        The output folder.
    title : str
        Title of the plot.
    tables : Sequence[str]
        Tables to print.
    panels : Sequence[callable]
        Functions that draw one panel each, given matplotlib's axes and the results.
    files : dict[str, str], optional
        Other files to list after the tables: description to file name.
    """
    folder = Path(folder)
    text = json.dumps(results, indent=1) + "\n"
    write_text(folder / "results.json", text)
    if results.get("label_purity", {}).get("rows"):
        tables = [*tables, purity_table(results["label_purity"])]
    if results.get("probe", {}).get("rows"):
        tables = [*tables, probe_table(results["probe"])]
        panels = [*panels, _draw_probe]
    figure, axes = plots.new_figure(len(panels), title)
    for each, draw in zip(axes, panels, strict=True):
        draw(each, results)
    plots.save_figure(figure, folder / "results.png")
    for table in tables:
        print(f"\n{table}")
    print()
    for name, reason in left_out(results).items():
        print(f"left out: {name.replace('_', ' ')}: {reason}")
    if "evaluated" in results:
        print(_evaluated(results))
    if "seconds" in results:
        wall, cpu = results["seconds"]["wall"], results["seconds"]["cpu"]
        print(f"training: {wall:.0f} s ({cpu:.0f} s of CPU), {results['steps']} steps")
    listed = {"results": "results.json", "plot": "results.png"} | dict(files or {})
    for name, file in listed.items():
        print(f"{name + ':':9} {folder / file}")


def left_out(results: Results) -> dict[str, str]:
    """Return the reason for each result that could not be computed, by its key."""
    kept = {name: each for name, each in results.items() if isinstance(each, dict)}
    return {n: each["left_out"] for n, each in kept.items() if "left_out" in each}


def _evaluated(results: Results) -> str:
    evaluated = results["evaluated"]
    text = (
        f"evaluated: {evaluated['run']}, epoch {results['best_epoch']} of "
        f"{len(results['epochs'])}, on {evaluated['speech']}"
    )
    if evaluated["seen"]:
        text += f"; {evaluated['seen']} utterances of it are training speech of the run"
    return text


def _draw_probe(axes: Any, results: Results) -> None:
    draw_probe(axes, results["probe"])


def draw_epochs(
    axes: Any,
    results: Results,
    name: str,
    title: str,
    ylabel: str,
    reference: tuple[float, str] | None = None,
    of: str = "speech",
) -> None:
    """Draw a metric of each epoch, on training data and on validation data.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    results : dict
        From `training_results`.
    name : str
        Name of the metric, as returned by the Brain's ``summarise``.
    title, ylabel : str
        Title of the panel; name and unit of the metric.
    reference : tuple[float, str], optional
        Value and name of a baseline.
    of : str
        Kind of audio, for the legend.
    """
    train, valid = (
        [epoch[f"{part}_{name}"] for epoch in results["epochs"]]
        for part in ("train", "valid")
    )
    plots.draw_curve(axes, plots.Curve(title, ylabel, train, valid, reference, of))
