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
    print(prediction_table(results["test"]))
    if results["probe"]["rows"]:
        print()
        print(probe_table(results["probe"]))
    print()
    seconds, cores = results["seconds"]["wall"], results["seconds"]["cpu"]
    print(f"training: {seconds:.0f} s ({cores:.0f} s of CPU), {results['steps']} steps")
    print(f"figures:  {json_file}")
    print(f"plot:     {png_file}")


def prediction_table(test):
    """Compare the model with knowing label frequencies alone.

    Arguments
    ---------
    test : dict
        From `masked_prediction`.

    Returns
    -------
    str
    """
    lower = test["nats_below_unigram"]
    header = ("masked held-out speech", "model", "frequencies alone", "model is")
    rows = [
        (
            "accuracy",
            test["accuracy"],
            test["commonest_label_accuracy"],
            f"{test['accuracy_ratio']:.1f} times as good",
        ),
        (
            "cross-entropy (nat)",
            test["loss"],
            test["unigram_loss"],
            f"{abs(lower):.2f} nat {'lower' if lower >= 0 else 'higher'}",
        ),
    ]
    note = (
        "Frequencies alone: always the commonest label; the unigram distribution of "
        f"labels\n(its entropy on training speech: {test['unigram_entropy']:.3f} nat). "
        f"Labels: {test['used_labels']} of {test['codebook_size']} used, "
        f"perplexity {test['label_perplexity']:.1f}."
    )
    return f"{text_table(rows, header)}\n{note}"


def draw(results, path):
    """Plot curves, label usage and the probe.

    Arguments
    ---------
    results : dict
        From `evaluate`.
    path : Path
        The PNG file.
    """
    epochs, test = results["epochs"], results["test"]
    rows = results["probe"]["rows"]
    title = (
        f"BEST-RQ on {results['minutes']['train']:.0f} min of speech, "
        f"{results['steps']} steps; on {results['minutes']['test']:.1f} min of test "
        f"speech {test['accuracy']:.3f} accurate, {test['loss']:.2f} nat"
    )
    figure, axes = plots.new_figure(4 if rows else 3, title)
    references = {
        "loss": (test["unigram_loss"], "label frequencies alone"),
        "accuracy": (test["commonest_label_accuracy"], "always the commonest label"),
    }
    panels = {
        "loss": ("Masked labels: cross-entropy", "nat per masked label"),
        "accuracy": ("Masked labels: accuracy", "share of them predicted"),
    }
    for panel, (name, (title, ylabel)) in zip(axes, panels.items(), strict=False):
        train, valid = ([e[f"{p}_{name}"] for e in epochs] for p in ("train", "valid"))
        curve = plots.Curve(title, ylabel, train, valid, references[name])
        plots.draw_curve(panel, curve)
        panel.set_ylim(bottom=0)
    plots.draw_usage(axes[2], results["label_counts"], test["label_perplexity"])
    if rows:
        draw_probe(axes[3], results["probe"])
    plots.save_figure(figure, path)
