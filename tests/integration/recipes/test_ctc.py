"""The CTC recipe from audio files to results, with every input, tiny."""

import csv
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sb_espnet_vq.errors import ConfigError, CorpusError

pytest.importorskip("speechbrain")
pytest.importorskip("huggingface_hub")
soundfile = pytest.importorskip("soundfile")

from saved_runs import save_run  # noqa: E402

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "recipes" / "CTC"
HPARAMS = ROOT / "hparams" / "CTC"
TINY = {
    "number_of_epochs": 2,
    "seconds_per_batch": 2.0,
    "n_mels": 10,
    "n_fft": 400,
    "lr": 0.02,
    "warmup_steps": 1,
    "dim": 8,
    "hidden_size": 8,
    "num_layers": 1,
    "held_out": "[0.2, 0.3]",
    "ckpt_interval_minutes": 0,
    "ckpt_interval_steps": 2,
}
INPUTS = {
    "frozen": {"pretrained": "best_rq"},
    "fine tuned": {"pretrained": "best_rq", "encoder_use": "fine_tuned"},
    "weighted sum": {"pretrained": "wav2vec2", "encoder_use": "weighted_sum"},
    "untrained": {"pretrained": "wav2vec2", "untrained": "true"},
    "tokens": {"tokens": "codec", "sample_rate": 8000},
    "learned embeddings": {
        "tokens": "codec",
        "sample_rate": 8000,
        "token_embedding": "learned",
    },
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    save_run(folder / "best_rq", "BEST-RQ/fsdd")
    save_run(folder / "wav2vec2", "wav2vec2/fsdd", num_encoder_layers=2)
    save_run(folder / "codec", "codec/fsdd")
    return folder


def arguments(corpus, output, file="fsdd", **more):
    options = TINY | {"manifest": corpus / "manifest.csv", "output_folder": output}
    options |= more
    pairs = [str(x) for key, value in options.items() for x in (f"--{key}", value)]
    return [str(HPARAMS / f"{file}.yaml"), "--device=cpu", "--noprogressbar", *pairs]


def of_run(runs, options):
    places = {"pretrained", "tokens"} & set(options)
    return options | {key: runs / options[key] for key in places}


def read_json(file):
    return json.loads(file.read_text())


def read_results(output):
    results = read_json(output / "results.json")
    results.pop("seconds")
    return results


@pytest.fixture(scope="module")
def uninterrupted(recipe, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    recipe.main(arguments(corpus, output))
    return output


def check_learned(output):
    results = read_results(output)
    losses = [epoch["train_loss"] for epoch in results["epochs"]]
    assert losses[-1] < losses[0]
    assert results["steps"] == 2 * 7
    return results


def test_the_interval_of_the_word_error_is_over_sentences(load_recipe):
    counts = [(0, 4), (3, 6)]
    scores = [{"num_edits": edits, "num_ref_tokens": words} for edits, words in counts]
    with load_recipe(RECIPE, "evaluate") as evaluate:
        low, high = evaluate.interval(SimpleNamespace(scores=scores))
    # Of resamples that are twice one of them.
    assert (low, high) == (0, 0.5)


def test_it_ends_with_results_and_a_plot(uninterrupted):
    results = check_learned(uninterrupted)
    assert results["utterances"] == {"train": 20, "valid": 8, "test": 12}
    test = results["test"]
    edits = test["insertions"] + test["deletions"] + test["substitutions"]
    assert test["words"] == 12 and test["sentences"] < 12
    assert test["word_error"] == pytest.approx(edits / 12)
    low, high = test["word_error_interval"]
    assert low <= test["word_error"] <= high
    # Two words, in about half of the utterances each.
    assert 0.2 < results["baselines"]["the most frequent word"] < 1
    assert (uninterrupted / "results.png").read_bytes()[1:4] == b"PNG"
    assert "low" in (uninterrupted / "alignments.txt").read_text()
    vocabulary = json.loads((uninterrupted / "vocabulary.json").read_text())
    assert vocabulary == {"units": "words", "symbols": ["high", "low"]}


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_is_learned_from(recipe, corpus, runs, tmp_path, name):
    recipe.main(arguments(corpus, tmp_path, **of_run(runs, INPUTS[name])))
    results = check_learned(tmp_path)
    assert name.partition(" ")[0] in results["input"]
    (saved, *_) = tmp_path.glob("save/CKPT*/optimizer.ckpt")
    groups = torch.load(saved, weights_only=True)["param_groups"]
    scales = [group.get("lr_scale") for group in groups]
    assert scales == [None] + [0.0003 / TINY["lr"]] * (name == "fine tuned")


def test_fewer_labels_take_as_many_steps(recipe, corpus, tmp_path):
    recipe.main(arguments(corpus, tmp_path, train_minutes=0.05, units="characters"))
    results = read_results(tmp_path)
    assert results["utterances"]["train"] < 10
    assert 0.05 <= results["minutes"]["train"] < 0.07
    assert abs(results["steps"] - 2 * 7) <= 2
    symbols = json.loads((tmp_path / "vocabulary.json").read_text())["symbols"]
    assert symbols == sorted({" ", *"highlow"})


def test_other_runs_are_shown_beside(recipe, corpus, uninterrupted, tmp_path, capsys):
    other = {"compare_with": f"[{uninterrupted}]", "number_of_epochs": 1}
    recipe.main(arguments(corpus, tmp_path / "a", **other))
    (compared,) = read_results(tmp_path / "a")["compared"]
    theirs = read_results(uninterrupted)["test"]["word_error"]
    assert compared["word_error"] == theirs
    assert str(uninterrupted) in capsys.readouterr().out
    with pytest.raises(ConfigError, match="was tested on other utterances"):
        recipe.main(arguments(corpus, tmp_path / "b", seed=3, **other))
    # Other speech is compared with no run.
    options = ["--device=cpu", f"--manifest={corpus / 'manifest.csv'}"]
    recipe.main(["--evaluate", str(tmp_path / "a"), *options])
    evaluated = tmp_path / "a" / "eval" / "manifest"
    assert read_json(evaluated / "results.json")["compared"] == []
    (tmp_path / "manifest.csv").write_text((corpus / "manifest.csv").read_text())
    options = ["--device=cpu", f"--manifest={tmp_path / 'manifest.csv'}"]
    options += [f"--data_folder={corpus}"]
    with pytest.raises(ConfigError, match="has the results for .*; give --out"):
        recipe.main(["--evaluate", str(tmp_path / "a"), *options])


def test_a_run_is_evaluated_to_the_same_results(recipe, uninterrupted, tmp_path):
    words = ["--evaluate", str(uninterrupted), "--device=cpu", "--output_folder"]
    recipe.main([*words, str(tmp_path)])
    again = json.loads((tmp_path / "results.json").read_text())
    assert again.pop("evaluated")["speech"] == "the run's test speech"
    assert again == read_results(uninterrupted)
    for name in ("vocabulary.json", "alignments.txt"):
        assert (tmp_path / name).read_text() == (uninterrupted / name).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 9])
def test_a_killed_run_resumes_to_the_same_results(
    kill_run, recipe, corpus, uninterrupted, tmp_path, step
):
    kill_run(RECIPE, arguments(corpus, tmp_path), step)
    assert not (tmp_path / "results.json").exists()
    recipe.main(arguments(corpus, tmp_path))
    assert read_results(tmp_path) == read_results(uninterrupted)


def test_the_full_size_configuration_takes_a_step(recipe, corpus, tmp_path):
    """On a folder as LibriSpeech's, with its transcripts."""
    sounds = sorted(corpus.glob("*.wav"))
    for part in ("train-clean-100", "dev-clean", "test-clean"):
        folder = tmp_path / "speech" / part / "7" / "1"
        folder.mkdir(parents=True)
        lines = []
        for number in range(6):
            sound = sounds.pop()
            (folder / f"7-1-{number}.wav").write_bytes(sound.read_bytes())
            lines.append(f"7-1-{number} A TEST\n")
        (folder / "7-1.trans.txt").write_text("".join(lines[1:]))
    options = {name: TINY[name] for name in ("hidden_size", "num_layers", "n_mels")} | {
        "data_folder": tmp_path / "speech",
        "output_folder": tmp_path / "run",
        "number_of_epochs": 1,
        "optimizer_step_limit": 1,
        "train_num_buckets": 2,
        "avoid_if_shorter_than": 0.1,
        "num_workers": 0,
        "precision": "fp32",
    }
    pairs = [str(x) for key, value in options.items() for x in (f"--{key}", value)]
    file = str(HPARAMS / "librispeech.yaml")
    recipe.main([file, "--device=cpu", "--noprogressbar", *pairs])
    results = read_results(tmp_path / "run")
    assert results["steps"] == 1
    # One of six has no transcript.
    assert results["utterances"]["test"] == 5 and results["test"]["words"] == 10


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"pretrained": "best_rq", "tokens": "codec"}, "give one of pretrained and"),
        ({"untrained": "true"}, "give its run to pretrained"),
        ({"encoder_use": "fine_tuned"}, "give its run to pretrained"),
        ({"encoder_use": "thawed"}, "encoder_use must be one of frozen, fine_tuned"),
        ({"token_codebooks": 2}, "token_codebooks needs a run"),
        ({"tokens": "codec", "token_codebooks": 9}, r"n_codebooks must be in \[1, 4\]"),
        ({"tokens": "codec"}, "sample_rate must be 8000, that of .*codec, not 16000"),
        ({"pretrained": "codec"}, "has no pretrained encoder"),
        ({"compare_with": "[nowhere]"}, "nowhere is no finished run of this recipe"),
        ({"units": "phones"}, "units must be one of characters, words"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_at_once(
    recipe, corpus, runs, tmp_path, setting, reason
):
    with pytest.raises(ConfigError, match=reason):
        recipe.main(arguments(corpus, tmp_path / "out", **of_run(runs, setting)))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_labels_that_are_not_there_are_refused(recipe, corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"train_minutes is 5, but there are 0\.2"):
        recipe.main(arguments(corpus, tmp_path / "a", train_minutes=5))
    command = arguments(corpus, tmp_path / "b", data_folder=corpus)
    index = command.index("--manifest")
    del command[index : index + 2]
    with pytest.raises(CorpusError, match="no utterance of train has a transcript"):
        recipe.main(command)


def test_short_utterances_are_joined_with_their_transcripts(load_recipe):
    from sb_espnet_vq.recognition.vocabulary import Vocabulary

    with load_recipe(RECIPE, "data") as data:
        join = data.JoinTranscribed(Vocabulary("words", ["one", "two"]), 1.0)
        items = [
            {"id": f"u{n}", "sig": torch.full((n,), 1.0 * n), "duration": seconds}
            | {"transcript": text}
            for n, seconds, text in ((2, 0.5, "two"), (3, 0.5, "one"), (4, 0.2, "six"))
        ]
        batch = join(items)
    assert batch.ids == ["u2", "u4"] and batch.texts == ["two one", "six"]
    assert batch.signals.tolist() == [[2, 2, 3, 3, 3], [4, 4, 4, 4, 0]]
    assert batch.samples.tolist() == [5, 4]
    # An unknown word has no unit; it stays in the reference.
    assert batch.units.tolist() == [[2, 1, 0], [0, 0, 0]]
    assert batch.counts.tolist() == [2, 0]
    assert batch.seconds == [1.0, 0.2]


def test_a_smaller_part_is_contained_in_a_larger_one(load_recipe):
    rows = {f"u{n}": {"duration": 6.0} for n in range(20)}

    class Rows:
        data, data_ids = rows, list(rows)
        pipeline = None

    with load_recipe(RECIPE, "data") as data:
        parts = [data.limit(Rows, share, seed=1).data_ids for share in (0.5, 1.0)]
        other = data.limit(Rows, 0.5, seed=2).data_ids
    assert [len(part) for part in parts] == [5, 10]
    assert set(parts[0]) < set(parts[1]) and parts[0] != other


def test_test_speech_that_a_run_was_trained_on_is_counted(
    load_recipe, tmp_path, caplog
):
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["ID", "wav"], ["a", "a.wav"], ["b", "b.wav"]])
    test = SimpleNamespace(data_ids=["b", "c"])
    with load_recipe(RECIPE, "data") as data, caplog.at_level(logging.WARNING):
        assert data.count_seen(str(tmp_path), test) == 1
        assert "1 of 2 test utterances were training speech" in caplog.text
        test.data_ids = ["c", "d"]
        assert data.count_seen(str(tmp_path), test) == 0
        assert data.count_seen(None, test) == 0


def test_error_rates_of_words_characters_and_the_baseline(load_recipe):
    from speechbrain.utils.metric_stats import ErrorRateStats

    train = SimpleNamespace(
        data={
            "u": {"transcript": "on on", "duration": 1.0},
            "v": {"transcript": "of", "duration": 2.0},
        },
        data_ids=["u", "v"],
    )
    stats = ErrorRateStats()
    stats.append(["x", "y"], [["of"], []], [["on"], ["on", "of", "of"]])
    batch = SimpleNamespace(ids=["x", "y"], seconds=[1.0, 3.0])
    brain = SimpleNamespace(test_scores=[(batch, stats)])
    with load_recipe(RECIPE, "evaluate") as evaluate:
        words, characters, commonest = evaluate.error_rates(brain, train)
    assert words.summarize("WER") == 100.0
    # "on", "on of of"; of 10 characters, one is replaced and eight are deleted.
    assert characters.summarize("WER") == pytest.approx(90.0)
    # One word a second: "on", "on on on".
    assert commonest.summarize("WER") == pytest.approx(50.0)
