"""The tables, the plot and the JSON file at the end of a run."""

import json
from pathlib import Path

from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.probe_report import draw_probe, probe_table
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.utils.files import write_text


def write_report(results, folder):
    """Write results.json and results.png, and print the figures.

    Arguments
    ---------
    results : dict
        From `evaluate`.
    folder : str
        The output folder.
    """
    json_file, png_file = Path(folder, "results.json"), Path(folder, "results.png")
    write_text(json_file, json.dumps(results, indent=1) + "\n")
    draw(results, png_file)
    print()
    print(contrast_table(results))
    if results["probe"]["rows"]:
        print()
        print(probe_table(results["probe"]))
    print()
    seconds, cores = results["seconds"]["wall"], results["seconds"]["cpu"]
    print(f"training: {seconds:.0f} s ({cores:.0f} s of CPU), {results['steps']} steps")
    print(f"figures:  {json_file}")
    print(f"plot:     {png_file}")


def contrast_table(results):
    """Compare the model with guessing and with itself before training.

    Arguments
    ---------
    results : dict
        From `evaluate`.

    Returns
    -------
    str
    """
    header = ("masked held-out speech", "trained", "guessing", "untrained", "guessing")
    rows = [
        ("accuracy", *both(results, "accuracy", "chance")),
        ("contrastive loss (nat)", *both(results, "loss", "chance_loss")),
        ("code perplexity", *both(results, "perplexity", None)),
        ("codes used", *both(results, "used_codes", None)),
    ]
    trained = results["test"]["trained"]
    note = (
        f"Up to {results['negatives']} negatives a frame, those with the same codes "
        f"left out; of {results['entries']} codes\nin {len(results['code_counts'])} "
        "codebook(s), whose perplexities are added. The trained model is "
        f"{trained['accuracy_ratio']:.1f} times as\naccurate as guessing. Never read "
        "accuracy without perplexity: with few codes in use,\nthere is little to tell "
        "apart."
    )
    return f"{text_table(rows, header)}\n{note}"


def both(results, figure, guessing):
    """One row of the table.

    Arguments
    ---------
    results : dict
        From `evaluate`.
    figure, guessing : str
        Keys of a model's figures; None for no figure of guessing.

    Returns
    -------
    list
    """
    row = []
    for model in ("trained", "untrained"):
        figures = results["test"][model]
        row += [figures[figure], "" if guessing is None else figures[guessing]]
    return row


def draw(results, path):
    """Plot curves, code usage and the probe.

    Arguments
    ---------
    results : dict
        From `evaluate`.
    path : Path
        The PNG file.
    """
    trained, rows = results["test"]["trained"], results["probe"]["rows"]
    title = (
        f"wav2vec 2.0 on {results['minutes']['train']:.0f} min of speech, "
        f"{results['steps']} steps; on {results['minutes']['test']:.1f} min of test "
        f"speech {trained['accuracy']:.3f} accurate (guessing {trained['chance']:.3f})"
    )
    figure, axes = plots.new_figure(4 if rows else 3, title)
    draw_accuracy(axes[0], results)
    draw_perplexity(axes[1], results)
    counts = [count for codebook in results["code_counts"] for count in codebook]
    plots.draw_usage(axes[2], counts, trained["perplexity"])
    if rows:
        draw_probe(axes[3], results["probe"])
    plots.save_figure(figure, path)


def draw_accuracy(axes, results):
    """Accuracy over epochs, against guessing and the untrained model.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    results : dict
        From `evaluate`.
    """
    chance = (results["test"]["trained"]["chance"], "guessing")
    title = "Which of the candidates is the masked frame?"
    train, valid = curves(results, "accuracy")
    ylabel = "share of masked frames told"
    plots.draw_curve(axes, plots.Curve(title, ylabel, train, valid, chance))
    draw_untrained(axes, results["test"]["untrained"]["accuracy"])
    axes.set_ylim(0, 1)


def draw_perplexity(axes, results):
    """Code perplexity over epochs, against all codes and the untrained model.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    results : dict
        From `evaluate`.
    """
    entries = (results["entries"], "all codes equally")
    title = "Codes in use: perplexity, added over codebooks"
    train, valid = curves(results, "perplexity")
    plots.draw_curve(axes, plots.Curve(title, "codes", train, valid, entries))
    draw_untrained(axes, results["test"]["untrained"]["perplexity"])
    axes.set_ylim(0, 1.05 * results["entries"])


def curves(results, figure):
    """A figure of each epoch, on training and on validation speech.

    Arguments
    ---------
    results : dict
        From `evaluate`.
    figure : str
        Its name.

    Returns
    -------
    tuple[list[float], list[float]]
    """
    epochs = results["epochs"]
    train, valid = ([e[f"{p}_{figure}"] for e in epochs] for p in ("train", "valid"))
    return train, valid


def draw_untrained(axes, value):
    """A line for the model before training, and the legend again.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    value : float
        Its figure.
    """
    axes.axhline(value, color="#666666", ls=":", label=f"untrained: {value:.2f}")
    axes.legend(frameon=False)
