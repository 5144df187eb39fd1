"""Word error on test speech; table and plots."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from speechbrain.utils.metric_stats import ErrorRateStats

from sb_espnet_vq.corpora import read_rows
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.evaluation import plots
from sb_espnet_vq.evaluation.intervals import bootstrap
from sb_espnet_vq.evaluation.tables import text_table
from sb_espnet_vq.training.results import (
    Results,
    draw_epochs,
    minutes,
    training_results,
    write_report,
)
from sb_espnet_vq.utils.files import atomic_file

ALIGNMENTS = "alignments.txt"
EDITS = ("insertions", "deletions", "substitutions")

# ---- metrics


def evaluate(brain: Any, datasets: dict[str, Any]) -> Results:
    """Return all results of a Brain after testing its best checkpoint."""
    hparams = vars(brain.hparams)
    words, characters, commonest = error_rates(brain, datasets["train"])
    write_alignments(words, Path(hparams["output_folder"], ALIGNMENTS))
    test = words.summarize()
    return training_results(brain, datasets) | {
        "input": hparams["source"].name,
        "parameters": sum(
            p.numel() for p in brain.modules.parameters() if p.requires_grad
        ),
        "test": {
            "word_error": test["WER"] / 100,
            "word_error_interval": interval(words),
            "character_error": characters.summarize("WER") / 100,
            "sentence_error": test["SER"] / 100,
            "words": test["num_scored_tokens"],
            "sentences": test["num_scored_sents"],
            **{name: test[name] for name in EDITS},
        },
        "baselines": {
            "the most frequent word": commonest.summarize("WER") / 100,
            # Every word is an error.
            "empty output": 1.0,
        },
        "compared": [compared(run) for run in hparams["compare_with"] or ()],
    }


def error_rates(brain: Any, train: Any) -> tuple[Any, Any, Any]:
    """Return statistics of words, of characters, and of the most frequent word.

    The latter is output as often as a recording of its duration has words on average.
    """
    texts = [train.data[name]["transcript"].split() for name in train.data_ids]
    counts = Counter(word for words in texts for word in words)
    word = min(counts, key=lambda each: (-counts[each], each))
    per_second = counts.total() / (60 * minutes(train))
    words, characters, commonest = (ErrorRateStats() for _ in range(3))
    for batch, stats in brain.test_scores:
        spoken = [each["ref_tokens"] for each in stats.scores]
        output = [each["hyp_tokens"] for each in stats.scores]
        words.append(batch.ids, output, spoken)
        spelled = [[list(" ".join(row)) for row in rows] for rows in (output, spoken)]
        characters.append(batch.ids, *spelled)
        guessed = [[word] * round(per_second * each) for each in batch.seconds]
        commonest.append(batch.ids, guessed, spoken)
    return words, characters, commonest


def interval(stats: Any) -> list[float]:
    """Return the 95 % interval of an error rate, by bootstrap over sentences."""
    counts = ("num_edits", "num_ref_tokens")
    edits, words = ([each[name] for each in stats.scores] for name in counts)
    return bootstrap(edits, words)


def write_alignments(stats: Any, path: Path) -> None:
    """Write every test sentence beside what was recognized, atomically."""
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        stats.write_stats(file)


def compared(run: str) -> dict[str, Any]:
    """Return what the table shows of another run of this recipe."""
    results = json.loads(Path(run, "results.json").read_text(encoding="utf-8"))
    try:
        return {
            "run": str(run),
            "input": results["input"],
            "train_minutes": results["minutes"]["train"],
            "word_error": results["test"]["word_error"],
        }
    except (KeyError, TypeError):
        raise ConfigError(f"{run}: results.json is not one of this recipe") from None


def check_same_test(runs: list[str] | None, output_folder: str) -> None:
    """Raise ConfigError if a run to compare with was tested on other utterances."""
    own = {row["ID"] for row in read_rows(Path(output_folder, "test.csv"))}
    for run in runs or ():
        compared(run)
        if {row.get("ID") for row in read_rows(Path(run, "test.csv"))} != own:
            raise ConfigError(
                f"compare_with: {run} was tested on other utterances; give both runs "
                "the same data, seed and held_out"
            )


# ---- tables and panels


def report(results: Results, folder: str) -> None:
    """Write results.json and results.png into the output folder, print the table."""
    duration = results["minutes"]
    title = (
        f"CTC from {results['input']} with {duration['train']:.1f} min of transcribed "
        f"speech, {results['steps']} steps; on {duration['test']:.1f} min of test "
        f"speech: word error {results['test']['word_error']:.3f}"
    )
    panels = [draw_loss, draw_word_error, draw_comparison]
    files = {"words": ALIGNMENTS}
    write_report(results, folder, title, [error_table(results)], panels, files)


def error_table(results: Results) -> str:
    """Return a table of this run, the runs compared with, and baselines."""
    test = results["test"]
    rows = [(results["input"], results["minutes"]["train"], test["word_error"])]
    rows += [
        (f"{each['input']} ({each['run']})", each["train_minutes"], each["word_error"])
        for each in results["compared"]
    ]
    rows += [(name, "", error) for name, error in results["baselines"].items()]
    note = (
        f"{test['words']} words in {test['sentences']} sentences: "
        f"{test['substitutions']} substituted, {test['deletions']} deleted, "
        f"{test['insertions']} inserted;\n"
        f"character error {test['character_error']:.3f}, sentences with an error "
        f"{test['sentence_error']:.3f}."
    )
    header = ("test speech", "minutes of labels", "word error")
    return f"{text_table(rows, header)}\n{note}"


def draw_loss(axes: Any, results: Results) -> None:
    """Draw the CTC loss of each epoch."""
    draw_epochs(axes, results, "loss", "CTC loss", "nat per unit of the transcript")
    axes.set_ylim(bottom=0)


def draw_word_error(axes: Any, results: Results) -> None:
    """Draw the word error of each epoch."""
    name = "the most frequent word"
    baseline = results["baselines"][name], name
    draw_epochs(axes, results, "word_error", "Word error", "errors per word", baseline)
    axes.set_ylim(bottom=0)


def draw_comparison(axes: Any, results: Results) -> None:
    """Draw the word error of this run, the runs compared with, and a baseline."""
    bars = {results["input"]: [results["test"]["word_error"]]}
    # Runs with one input, as with several seeds, share a bar.
    for each in results["compared"]:
        bars.setdefault(each["input"], []).append(each["word_error"])
    name = "the most frequent word"
    bars[name] = [results["baselines"][name]]
    title = "Word error on test speech"
    plots.draw_bars(axes, {"": bars}, "errors per word (dots: runs)", title)
