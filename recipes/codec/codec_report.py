"""The table, the plots, the audio and the JSON file at the end of a run."""

import json
from pathlib import Path

import soundfile

from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.utils.files import atomic_file, write_text

# Key of each figure, how a table names it, and its axis.
FIGURES = {
    "si_sdr": ("SI-SDR (dB)", "SI-SDR (dB), higher is better"),
    "mel_distance": ("mel distance (dB)", "mel distance (dB), lower is better"),
    "stoi": ("STOI", "STOI, higher is better"),
}


def write_report(results, folder):
    """Write results.json, plots and reconstructions, and print the figures.

    Arguments
    ---------
    results : tuple[dict, list[Example]]
        From `evaluate`.
    folder : str
        The output folder.
    """
    figures, examples = results
    folder, rate = Path(folder), figures["sample_rate"]
    write_text(folder / "results.json", json.dumps(figures, indent=1) + "\n")
    draw(figures, folder / "results.png")
    for example in examples:
        write_audio(example, folder / "reconstructions", rate)
    if examples:
        draw_example(examples[0], rate, folder / "reconstructions.png")
    print()
    print(table(figures))
    print()
    seconds, cores = figures["seconds"]["wall"], figures["seconds"]["cpu"]
    print(f"training: {seconds:.0f} s ({cores:.0f} s of CPU), {figures['steps']} steps")
    print(f"figures:  {folder / 'results.json'}")
    print(f"plots:    {folder / 'results.png'}, {folder / 'reconstructions.png'}")
    print(f"audio:    {folder / 'reconstructions'}")


def table(figures):
    """Show quality and cost at each bandwidth.

    Arguments
    ---------
    figures : dict
        From `evaluate`.

    Returns
    -------
    str
    """
    header = ["bitrate (kbit/s)"]
    for shown, _ in FIGURES.values():
        header += [shown, "untrained"]
    header += ["codes used", "perplexity", "entropy (kbit/s)"]
    rows = []
    for row in figures["bandwidths"]:
        trained, untrained = row["trained"], row["untrained"]
        cells = [f"{trained['bitrate']:.2f}"]
        for name in FIGURES:
            cells += [as_text(trained[name]), as_text(untrained[name])]
        cells += [f"{trained['used_codes']:.0f}", f"{trained['perplexity']:.0f}"]
        rows.append([*cells, f"{trained['entropy_bitrate']:.2f}"])
    note = (
        f"{figures['quantizer']}, {figures['codebook_size']} codes a codebook, "
        f"{figures['frame_rate']:g} frames/s; {figures['minutes']['test']:.1f} min of "
        "held-out speech.\nThe bitrate counts whole frames; entropy is what a coder "
        "needs that knows how often each code occurs."
    )
    return f"{text_table(rows, header)}\n{note}"


def as_text(figure):
    """A figure as text; STOI is missing where all speech is too short for it.

    Arguments
    ---------
    figure : float | None

    Returns
    -------
    str
    """
    return "-" if figure is None else f"{figure:.3f}"


def draw(figures, path):
    """Plot quality against bitrate, and the training curve.

    Arguments
    ---------
    figures : dict
        From `evaluate`.
    path : Path
        The PNG file.
    """
    title = (
        f"Codec with {figures['quantizer']} on {figures['minutes']['train']:.0f} min "
        f"of speech, {figures['steps']} steps; measured on "
        f"{figures['minutes']['test']:.1f} min of test speech"
    )
    figure, axes = plots.new_figure(4, title)
    rates = [row["trained"]["bitrate"] for row in figures["bandwidths"]]
    for panel, (name, (_, ylabel)) in zip(axes, FIGURES.items(), strict=False):
        trained, untrained = (
            [row[model][name] for row in figures["bandwidths"]]
            for model in ("trained", "untrained")
        )
        if None not in trained:
            plots.draw_rate_distortion(panel, ylabel, rates, trained, untrained)
    epochs = figures["epochs"]
    train, valid = ([e[f"{p}_mel"] for e in epochs] for p in ("train", "valid"))
    curve = plots.Curve(
        "Training: train at random bandwidths, held-out at the highest",
        "mel loss (nat)",
        train,
        valid,
    )
    plots.draw_curve(axes[3], curve)
    plots.save_figure(figure, path)


def draw_example(example, sample_rate, path):
    """Draw the spectrogram of an utterance and of what each bandwidth makes of it.

    Arguments
    ---------
    example : Example
        From `evaluate`.
    sample_rate : int
        In Hz.
    path : Path
        The PNG file.
    """
    figure, axes = plots.new_figure(
        len(example.signals), f"{example.name}, test speech"
    )
    for panel, (name, signal) in zip(axes, example.signals.items(), strict=True):
        plots.draw_spectrogram(panel, signal.numpy(), sample_rate, name)
    plots.save_figure(figure, path)


def write_audio(example, folder, sample_rate):
    """Write the original and each reconstruction as WAV files.

    Arguments
    ---------
    example : Example
        From `evaluate`.
    folder : Path
        A folder of the example's name is made in it.
    sample_rate : int
        In Hz.
    """
    for name, signal in example.signals.items():
        file = f"{name.replace(' kbit/s', 'kbps')}.wav"
        with atomic_file(folder / example.name.replace("/", "_") / file) as partial:
            peak = max(1.0, float(signal.abs().max()))
            soundfile.write(partial, (signal / peak).numpy(), sample_rate)
