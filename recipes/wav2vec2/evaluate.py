"""Metrics of wav2vec 2.0 on test speech; tables and plots."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import speechbrain as sb
import torch
from torch import Tensor

from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.training.checkpoints import TrainingRecord
from sb_espnet_vq.training.data import make_loader
from sb_espnet_vq.training.evaluation import missing_training_speech
from sb_espnet_vq.training.label_codes import label_purity
from sb_espnet_vq.training.label_probe import probe
from sb_espnet_vq.training.results import (
    Results,
    count_parameters,
    draw_epochs,
    training_results,
    write_report,
)
from sb_espnet_vq.utils.speech_batch import SpeechBatch

# Rows of the table: title, metric, key of its chance level.
ROWS = (
    ("accuracy", "accuracy", "chance"),
    ("contrastive loss (nat)", "loss", "chance_loss"),
    ("code perplexity", "perplexity", None),
    ("codes used", "used_codes", None),
)

# ---- metrics


def evaluate(brain: Any, datasets: dict[str, Any], models: dict[str, Any]) -> Results:
    """Return all results of a Brain after testing its best checkpoint.

    `models` are the trained and the untrained networks, without DDP wrappers.
    """
    hparams, sums = vars(brain.hparams), {"trained": brain.test_sums}
    results = training_results(brain, datasets)
    missing = missing_training_speech(hparams)
    if missing is None:
        untrained = models["untrained"]
        untrained.front_end.gather(make_loader(datasets["train"], hparams))
        test = make_loader(datasets["test"], hparams)
        sums["untrained"] = sums_of(brain, untrained, test)
    else:
        # Its front end starts from training speech.
        models = {"trained": models["trained"]}
        results["untrained_model"] = {"left_out": missing}
    counts = sums["trained"]["counts"]
    return results | {
        "parameters": count_parameters(models["trained"]),
        "negatives": hparams["num_negatives"],
        "entries": counts.numel(),
        "test": {name: contrastive_metrics(brain, sums[name]) for name in models},
        "code_counts": counts.long().tolist(),
        "label_purity": label_purity(
            datasets["test"], partial(codes_of, brain, models), hparams
        ),
        "probe": probe(datasets, partial(represent, brain, models), hparams),
    }


@torch.no_grad()
def sums_of(
    brain: Any, networks: Any, batches: Iterable[SpeechBatch]
) -> dict[str, Tensor]:
    """Return the sums over test speech, as for the trained model."""
    record = TrainingRecord()
    for module in networks:
        module.eval()
    for batch in batches:
        brain.count(record, brain.contrast(batch, sb.Stage.TEST, networks))
    return record.running


def contrastive_metrics(brain: Any, sums: dict[str, Tensor]) -> dict[str, float]:
    """Return the metrics of a model and their chance levels.

    Losses are in nats per masked frame; perplexity and used codes are summed over
    codebooks.
    """
    metrics = brain.summarise(sums)
    del metrics["temperature"]
    return metrics | {
        "masked_frames": int(sums["masked"]),
        "chance_loss": metrics["loss"] - metrics["nats_above_chance"],
        "accuracy_ratio": metrics["accuracy"] / max(metrics["chance"], 1e-9),
        "used_codes": int((sums["counts"] > 0).sum()),
    }


def codes_of(
    brain: Any, models: dict[str, Any], batch: SpeechBatch
) -> dict[str, list[Tensor]]:
    """Return the codes of the latent frames of each row, (frames, K)."""
    codes = {}
    for name, networks in models.items():
        for module in networks:
            module.eval()
        latents = brain.latents(batch, networks)
        quantizer = networks.target_quantiser.quantiser.quantizer
        found = quantizer.encode(latents.frames[latents.valid])
        codes[f"codes, {name}"] = list(found.split(latents.lengths.tolist()))
    return codes


def represent(
    brain: Any, models: dict[str, Any], batch: SpeechBatch
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the frames for the probe, and the number of valid ones in each row.

    The representations are the trained encoder, the untrained encoder, and log-mels.
    """
    hparams = vars(brain.hparams)
    samples = batch.samples.to(brain.device)
    features = hparams["compute_features"](batch.signals.to(brain.device))
    hop = hparams["sample_rate"] * hparams["hop_length"] // 1000
    frames = {"log_mel": (features, samples // hop + 1)}
    for name, networks in models.items():
        for module in networks:
            module.eval()
        latents = brain.latents(batch, networks)
        hidden = brain.layer_output(
            latents, networks.latent_encoder, hparams["probe_layer"]
        )
        frames[name] = hidden, latents.lengths.clamp(min=1)
    return frames


# ---- tables and panels


def report(results: Results, folder: str) -> None:
    """Write results.json and results.png into the output folder, print the tables."""
    trained, minutes = results["test"]["trained"], results["minutes"]
    title = (
        f"wav2vec 2.0 on {minutes['train']:.0f} min of speech, {results['steps']} "
        f"steps; on {minutes['test']:.1f} min of test speech: accuracy "
        f"{trained['accuracy']:.3f} (chance {trained['chance']:.3f})"
    )
    panels = [draw_accuracy, draw_perplexity, draw_codes]
    write_report(results, folder, title, [contrast_table(results)], panels)


def contrast_table(results: Results) -> str:
    """Return a table of the model, the untrained model and the chance levels."""
    header = ["masked held-out speech"]
    rows: list[list[object]] = [[shown] for shown, _, _ in ROWS]
    for model, test in results["test"].items():
        header += [model, "chance"]
        for row, (_, name, chance) in zip(rows, ROWS, strict=True):
            row += [test[name], test.get(chance, "")]
    trained = results["test"]["trained"]
    note = (
        f"Up to {results['negatives']} negatives per frame, without those that have "
        f"the codes of the target; {results['entries']} codes\nin "
        f"{len(results['code_counts'])} codebook(s), perplexities summed. The accuracy "
        f"of the trained model is {trained['accuracy_ratio']:.1f} times\nchance. "
        "Always read accuracy together with perplexity: with few codes in use the task "
        "is easy."
    )
    return f"{text_table(rows, header)}\n{note}"


def draw_accuracy(axes: Any, results: Results) -> None:
    """Draw the accuracy of each epoch, with chance and the untrained model."""
    chance = (results["test"]["trained"]["chance"], "chance")
    title = "Contrastive accuracy"
    draw_epochs(axes, results, "accuracy", title, "share of masked frames", chance)
    draw_untrained(axes, results, "accuracy")
    axes.set_ylim(0, 1)


def draw_perplexity(axes: Any, results: Results) -> None:
    """Draw the perplexity of each epoch, with its maximum and the untrained model."""
    uniform = (results["entries"], "uniform use of all codes")
    title = "Code perplexity, summed over codebooks"
    draw_epochs(axes, results, "perplexity", title, "codes", uniform)
    draw_untrained(axes, results, "perplexity")
    axes.set_ylim(0, 1.05 * results["entries"])


def draw_untrained(axes: Any, results: Results, name: str) -> None:
    """Draw a line for the untrained model if it was tested, and update the legend."""
    if "untrained" not in results["test"]:
        return
    value = results["test"]["untrained"][name]
    axes.axhline(value, color="#666666", ls=":", label=f"untrained: {value:.2f}")
    axes.legend(frameon=False)


def draw_codes(axes: Any, results: Results) -> None:
    """Draw how often each code is used."""
    counts = [count for codebook in results["code_counts"] for count in codebook]
    plots.draw_usage(axes, counts, results["test"]["trained"]["perplexity"])
