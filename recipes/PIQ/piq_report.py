"""The table, the plots and the JSON file at the end of a run."""

import json
from pathlib import Path

from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.utils.files import write_text

# Key of each figure, and how a table names it; percent from the third on.
FIGURES = {
    "input_fidelity": "fidelity",
    "faithfulness": "faithfulness",
    "average_increase": "AI (%)",
    "average_drop": "AD (%)",
    "average_gain": "AG (%)",
}
COLOURS = {
    "trained": plots.HELD_OUT,
    "untrained": plots.TRAIN,
    "random": plots.REFERENCE,
    "all ones": "#999999",
    "another's": "#009E73",
}
NOTE = """\
fidelity: share of clips whose class stays when only what the mask keeps is heard.
faithfulness: how much less probable the class is in what the mask leaves out.
AI, AD, AG: clips whose class gets more probable in what is kept; the share of its
probability lost; the share of the missing probability won. Lower is better for AD.
another's: the trained mask of another clip. It turns a clip into the class of that
other one, where theirs differ, in {:.1f} %; a mask that is its class would in all."""


def write_classifier_report(figures, folder):
    """Write results.json and results.png, and print the figures.

    Arguments
    ---------
    figures : dict
        From `evaluate_classifier`.
    folder : str
        Of this training.
    """
    folder = Path(folder)
    write_text(folder / "results.json", json.dumps(figures, indent=1) + "\n")
    title = f"Classifier on {described(figures)}"
    figure, axes = plots.new_figure(2, title)
    for panel, (name, ylabel) in zip(
        axes,
        {"loss": "cross-entropy (nat)", "accuracy": "accuracy"}.items(),
        strict=True,
    ):
        draw_epochs(panel, figures["epochs"], name, ylabel)
    axes[1].axhline(
        figures["accuracy"],
        color=plots.REFERENCE,
        ls="--",
        label=f"test clips, best epoch: {figures['accuracy']:.3f}",
    )
    axes[1].legend(frameon=False, loc="lower right")
    plots.save_figure(figure, folder / "results.png")
    rows = list(figures["accuracy_by_class"].items())
    print()
    print(text_table([*rows, ["all", figures["accuracy"]]], ["class", "accuracy"]))
    print(f"{figures['clips']['test']} test clips")
    _say_where(figures, folder)


def write_report(figures, folder):
    """Write results.json and results.png, and print the figures.

    Arguments
    ---------
    figures : dict
        From `evaluate`.
    folder : str
        Of this training.
    """
    folder = Path(folder)
    write_text(folder / "results.json", json.dumps(figures, indent=1) + "\n")
    draw(figures, folder / "results.png")
    print()
    print(table(figures))
    _say_where(figures, folder)


def table(figures):
    """Show what each mask does.

    Arguments
    ---------
    figures : dict
        From `evaluate`.

    Returns
    -------
    str
    """
    rows = [
        [name, *(row[figure] for figure in FIGURES), row["mask_density"]]
        for name, row in figures["masks"].items()
    ]
    header = ["mask", *FIGURES.values(), "mean of mask"]
    keys = figures["keys"]
    return (
        f"{text_table(rows, header)}\n"
        f"{NOTE.format(100 * figures['class_follows_mask'])}\n"
        f"{figures['clips']['test']} test clips, classifier right on "
        f"{100 * figures['accuracy']:.1f} %; {figures['quantizer']}, "
        f"{keys['used']:.0f} keys used, perplexity {keys['perplexity']:.0f}"
    )


def described(figures):
    """Say in a title what was trained on and measured on.

    Arguments
    ---------
    figures : dict
        Of either training.

    Returns
    -------
    str
    """
    clips = figures["clips"]
    return (
        f"{clips['train']} clips of {len(figures['classes'])} classes, "
        f"{figures['steps']} steps; measured on {clips['test']} test clips"
    )


def draw(figures, path):
    """Plot the figures of each mask, and the training curve.

    Arguments
    ---------
    figures : dict
        From `evaluate`.
    path : Path
        The PNG file.
    """
    title = f"PIQ with {figures['quantizer']} on {described(figures)}"
    figure, axes = plots.new_figure(4, title)
    chance = 1 / len(figures["classes"])
    groups = [
        (["input_fidelity"], "share of clips", "Same class in what is kept"),
        (
            ["faithfulness"],
            "difference of probability",
            "Class lost in what is left out",
        ),
        (
            ["average_increase", "average_gain", "average_drop"],
            "percent",
            "Confidence in what is kept: AI and AG up, AD down",
        ),
    ]
    for panel, (names, ylabel, heading) in zip(axes, groups, strict=False):
        draw_masks(panel, figures["masks"], names, ylabel)
        panel.set_title(heading)
    axes[0].axhline(chance, color="k", ls="--", lw=1, label=f"guessing: {chance:.2f}")
    axes[1].axhline(0, color="k", lw=1)
    # One legend for all, outside: in a panel it would hide bars.
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False
    )
    axes[2].margins(y=0.1)
    draw_epochs(axes[3], figures["epochs"], "loss", "sum of losses (nat)")
    plots.save_figure(figure, path)


def draw_masks(axes, masks, names, ylabel):
    """Draw a group of bars for each figure, one bar for each mask.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    masks : dict[str, dict[str, float]]
        The figures of each mask.
    names : list[str]
        Figures to draw.
    ylabel : str
        Name and unit.
    """
    width = 0.8 / len(masks)
    for number, (mask, row) in enumerate(masks.items()):
        places = [place + (number + 0.5) * width - 0.4 for place in range(len(names))]
        bars = axes.bar(
            places,
            [row[name] for name in names],
            width * 0.92,
            color=COLOURS[mask],
            label=f"{mask} mask",
        )
        axes.bar_label(bars, fmt="%.2f" if len(names) == 1 else "%.1f", fontsize=8)
    shown = [FIGURES[name].partition(" (")[0] for name in names]
    axes.set_xticks(range(len(names)), shown)
    axes.set(ylabel=ylabel)
    axes.grid(alpha=0.3, axis="y")


def draw_epochs(axes, epochs, name, ylabel):
    """Draw a figure over the epochs, on training clips and on held-out ones.

    Arguments
    ---------
    axes : matplotlib.axes.Axes
        The panel.
    epochs : list[dict]
        From the record.
    name : str
        Of the figure.
    ylabel : str
        Name and unit.
    """
    train, valid = (
        [e[f"{part}_{name}"] for e in epochs] for part in ("train", "valid")
    )
    curve = plots.Curve(f"Training: {name}", ylabel, train, valid, of="clips")
    plots.draw_curve(axes, curve)


def _say_where(figures, folder):
    seconds, cores = figures["seconds"]["wall"], figures["seconds"]["cpu"]
    print()
    print(f"training: {seconds:.0f} s ({cores:.0f} s of CPU), {figures['steps']} steps")
    print(f"figures:  {folder / 'results.json'}")
    print(f"plots:    {folder / 'results.png'}")
