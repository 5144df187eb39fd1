"""The BEST-RQ recipe from audio files to results, tiny; killed and resumed."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sb_espnet_vq.corpora import read_rows
from sb_espnet_vq.errors import CheckpointError, ConfigError, CorpusError

pytest.importorskip("speechbrain")
pytest.importorskip("soundfile")

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "recipes" / "BEST-RQ"
HPARAMS = ROOT / "hparams" / "BEST-RQ"
TINY = {
    "number_of_epochs": 2,
    "seconds_per_batch": 2.0,
    "n_mels": 10,
    "p_input": 40,
    "n_fft": 400,
    "cb_vocab": 8,
    "d_model": 16,
    "nhead": 2,
    "num_encoder_layers": 1,
    "d_ffn": 16,
    "kernel_size": 3,
    "probe_layer": 1,
    "probe_labels": "[12]",
    "probe_draws": 2,
    "held_out": "[0.2, 0.3]",
    "ckpt_interval_minutes": 0,
    "ckpt_interval_steps": 2,
}


def arguments(corpus, output, **more):
    options = TINY | {"manifest": corpus / "manifest.csv", "output_folder": output}
    options |= more
    pairs = [str(x) for key, value in options.items() for x in (f"--{key}", value)]
    return [str(HPARAMS / "fsdd.yaml"), "--device=cpu", "--noprogressbar", *pairs]


def read_results(output):
    results = json.loads((output / "results.json").read_text())
    results.pop("seconds")
    return results


def frames_of_test(output, stack):
    """The number of stacked frames of 10 ms in the test speech, without padding."""
    seconds = [float(row["duration"]) for row in read_rows(output / "test.csv")]
    return sum((round(16000 * x) // 160 + 1) // stack for x in seconds)


@pytest.fixture(scope="module")
def uninterrupted(recipe, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    recipe.main(arguments(corpus, output))
    return output


def test_it_ends_with_results_and_a_plot(uninterrupted):
    results = read_results(uninterrupted)
    assert results["steps"] == 2 * 7
    assert results["best_epoch"] in (1, 2)
    assert [epoch["epoch"] for epoch in results["epochs"]] == [1, 2]
    assert results["utterances"] == {"train": 20, "valid": 8, "test": 12}
    test = results["test"]
    assert 0 <= test["accuracy"] <= 1
    assert test["masked_stacks"] > 10
    assert test["nats_below_unigram"] == test["unigram_loss"] - test["loss"]
    assert sum(results["label_counts"]) > 100
    (row,) = results["label_purity"]["rows"].values()
    assert results["label_purity"]["classes"] == ["high", "low"]
    assert row["frames"] == frames_of_test(uninterrupted, 4)
    assert row["most_frequent_label"] < 0.7
    # Tones of other frequencies.
    assert row["pnmi"] > row["shuffled"]["pnmi"] + 0.1
    (row,) = results["probe"]["rows"]
    assert set(row["accuracy"]) == {"trained", "untrained", "log_mel"}
    assert all(len(values) == 2 for values in row["accuracy"].values())
    assert (uninterrupted / "results.png").read_bytes()[1:4] == b"PNG"


def test_several_codebooks_have_a_head_each(recipe, corpus, tmp_path):
    options = {"n_codebooks": 3, "quantizer": "rvq", "number_of_epochs": 1}
    recipe.main(arguments(corpus, tmp_path, **options))
    results = read_results(tmp_path)
    counts = torch.tensor(results["label_counts"])
    assert counts.shape == (3, 8) and len(set(counts.sum(1).tolist())) == 1
    test = results["test"]
    assert test["n_codebooks"] == 3 and test["codebook_size"] == 8
    # Means over codebooks, not sums.
    assert 0 < test["commonest_label_accuracy"] < 1
    assert test["unigram_entropy"] < torch.tensor(8.0).log()
    (linear,) = {
        torch.load(path)["w.weight"].shape
        for path in (tmp_path / "save").glob("CKPT*/linear.ckpt")
    }
    assert linear == (3 * 8, 16)


def test_metrics_are_means_over_codebooks(recipe):
    """Two codebooks against the same two, each as the only one."""
    from evaluate import count_codes, masked_prediction

    from sb_espnet_vq.training.checkpoints import TrainingRecord

    class Brain(recipe.BestRQBrain):
        def __init__(self):
            self.hparams, self.device = SimpleNamespace(cb_vocab=5), "cpu"
            self.sums = TrainingRecord()

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 2, 5, generator=generator)
    targets = torch.randint(5, (40, 2), generator=generator) // torch.tensor([1, 2])
    found = []
    for columns in ([0, 1], [0], [1]):
        brain = Brain()
        chosen = targets[:, columns]
        prediction = recipe.Prediction(
            logits[:, columns], chosen, chosen, torch.tensor(40)
        )
        loss = brain.compute_objectives(prediction, None, None)
        sums = brain.sums.totals()
        metrics = masked_prediction(sums, count_codes(chosen, 5).double())
        found.append({"objective": float(loss), **metrics, **brain.summarise(sums)})
    both, *each = found
    for name in set(both) - {"n_codebooks", "accuracy_ratio", "used_labels"}:
        mean = (each[0][name] + each[1][name]) / 2
        assert both[name] == pytest.approx(mean), name


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 9])
def test_a_killed_run_resumes_to_the_same_results(
    kill_run, recipe, corpus, uninterrupted, tmp_path, step
):
    kill_run(RECIPE, arguments(corpus, tmp_path), step)
    assert not (tmp_path / "results.json").exists()
    recipe.main(arguments(corpus, tmp_path))
    assert read_results(tmp_path) == read_results(uninterrupted)
    # And again: nothing is left to train, the results stay.
    recipe.main(arguments(corpus, tmp_path))
    assert read_results(tmp_path) == read_results(uninterrupted)


def evaluated(run, *options):
    """The words of an evaluation."""
    return ["--evaluate", str(run), "--device=cpu", *map(str, options)]


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_moved_run_is_evaluated_to_the_same_results(recipe, uninterrupted, tmp_path):
    run = shutil.copytree(uninterrupted, tmp_path / "moved")
    yaml = run / "hyperparams.yaml"
    # A third epoch would follow, and is not trained.
    yaml.write_text(yaml.read_text().replace("  limit: 2\n", "  limit: 3\n"))
    before = contents(run)
    recipe.main(evaluated(run))
    assert before.items() <= contents(run).items()
    again = json.loads((run / "eval" / "test" / "results.json").read_text())
    origin = again.pop("evaluated")
    assert again == read_results(uninterrupted)
    assert origin["run"] == str(run) and origin["missing"] is None
    assert {p.relative_to(run).parts[0] for p in set(contents(run)) - set(before)} == {
        "eval"
    }


def test_a_run_is_evaluated_on_a_folder(
    recipe, corpus, uninterrupted, tmp_path, capsys
):
    """Its training speech does not exist any more."""
    run = shutil.copytree(uninterrupted, tmp_path / "run")
    origin = json.loads((run / "recipe.json").read_text())
    assert origin == {"folder": str(RECIPE), "data_root": str(corpus)}
    gone = tmp_path / "gone"
    (run / "recipe.json").write_text(json.dumps(origin | {"data_root": str(gone)}))
    options = ("--data_folder", corpus, "--output_folder", tmp_path / "out")
    recipe.main(evaluated(run, *options))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["utterances"] == {"train": 20, "valid": 8, "test": 40}
    # The frequencies of labels are those of the training.
    assert results["label_counts"] == read_results(uninterrupted)["label_counts"]
    assert str(gone) in results["probe"]["left_out"]
    printed = capsys.readouterr().out
    assert "left out: probe: it needs the run's training speech" in printed
    assert f"of 2, on {corpus}" in printed
    with pytest.raises(CorpusError, match="give --manifest .*test.csv and its new"):
        recipe.main(evaluated(run))
    (run / "results.json").unlink()
    with pytest.raises(CorpusError, match="frequencies of labels cannot be counted"):
        recipe.main(evaluated(run, *options))


def test_training_speech_in_other_speech_is_counted(
    recipe, corpus, uninterrupted, tmp_path, capsys
):
    options = ("--manifest", corpus / "manifest.csv", "--output_folder", tmp_path)
    recipe.main(evaluated(uninterrupted, *options, "--probe_labels", "[14]"))
    results = json.loads((tmp_path / "results.json").read_text())
    # 40 recordings; one of those for training is too short.
    listed = (uninterrupted / "train.csv").read_text().count("\n") - 1
    assert results["evaluated"]["seen"] == listed >= 20
    assert results["probe"]["rows"][0]["labels"] == 14
    assert f"{listed} utterances of it are training speech" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--d_ffn", "8"], "d_ffn: .* was trained with 16, which an evaluation cannot"),
        (["--probe_label", "[3]"], "did you mean --probe_labels"),
        (["--data_folder", "empty"], "empty: no audio in this folder"),
        (["--data_folder", "nowhere"], "nowhere: no such folder"),
        (["--output_folder", "RUN"], "this is the folder of a run; choose another"),
        (["--probe_layer", "2"], "probe_layer must be in -1 ... 1"),
    ],
    ids=str,
)
def test_an_evaluation_that_cannot_work_is_refused_at_once(
    recipe, uninterrupted, tmp_path, monkeypatch, options, reason
):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    before = contents(uninterrupted)
    words = [str(uninterrupted) if word == "RUN" else word for word in options]
    with pytest.raises((ConfigError, CorpusError), match=reason):
        recipe.main(evaluated(uninterrupted, *words))
    assert contents(uninterrupted) == before


def test_what_is_no_finished_run_of_the_recipe_is_not_evaluated(
    recipe, uninterrupted, tmp_path
):
    with pytest.raises(CheckpointError, match="no run of a recipe"):
        recipe.main(evaluated(tmp_path))
    shutil.copy(uninterrupted / "hyperparams.yaml", tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint at the end of an epoch"):
        recipe.main(evaluated(tmp_path))
    for hparams, error, reason in (
        ("codec", ConfigError, "not a run of this recipe: .* 'pad_to_divisible_by'"),
        ("PIQ", ConfigError, "a run of several trainings is not evaluated alone"),
    ):
        shutil.copytree(uninterrupted / "save", tmp_path / hparams / "save")
        yaml = ROOT / "hparams" / hparams / "fsdd.yaml"
        shutil.copy(yaml, tmp_path / hparams / "hyperparams.yaml")
        with pytest.raises(error, match=reason):
            recipe.main(evaluated(tmp_path / hparams))


def test_fine_tuning_in_speechbrain_loads_the_checkpoint(
    recipe, uninterrupted, transfer
):
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.transformer.TransformerASR import (
        EncoderWrapper,
        TransformerASR,
    )
    from speechbrain.processing.features import InputNormalization

    from sb_espnet_vq.ssl.front_ends import StackFrames

    # As in SpeechBrain's train_sb_BEST-RQ.yaml, with these sizes.
    transformer = TransformerASR(
        tgt_vocab=29,
        input_size=40,
        d_model=16,
        nhead=2,
        num_encoder_layers=1,
        num_decoder_layers=0,
        d_ffn=16,
        encoder_module="conformer",
        kernel_size=3,
        attention_type="RelPosMHAXL",
        normalize_before=True,
        causal=False,
    )
    front_end, encoder = StackFrames(4), EncoderWrapper(transformer)
    normalize = InputNormalization(norm_type="global", update_until_epoch=0)
    names = {
        "model": torch.nn.ModuleList([front_end, encoder]),
        "normalize": normalize,
    }
    assert transfer(uninterrupted, names) == []
    assert normalize.count > 0 and normalize.glob_mean.shape == (10,)
    names["model"].eval()
    for samples in range(8000, 8640, 160):
        features = Fbank(n_mels=10, n_fft=400)(torch.randn(2, samples))
        out = encoder(front_end(normalize(features)), torch.ones(2))
        assert out.shape == (2, -(-features.shape[1] // 4), 16)


def test_a_checkpoint_of_another_layout_is_refused(
    recipe, corpus, uninterrupted, tmp_path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    for path in (tmp_path / "run" / "save").glob("CKPT*/linear.ckpt"):
        path.unlink()
        meta = path.with_name("CKPT.yaml")
        lines = [x for x in meta.read_text().splitlines() if "files: " not in x]
        meta.write_text("\n".join(lines) + "\n")
    with pytest.raises(CheckpointError, match=r"has no linear.ckpt.*another version"):
        recipe.main(arguments(corpus, tmp_path / "run"))


def test_padding_and_the_rest_of_the_batch_change_no_features(recipe, corpus, tmp_path):
    from speechbrain import parse_arguments
    from speechbrain.core import Stage

    from sb_espnet_vq.training.batches import JoinShort
    from sb_espnet_vq.training.start import load_hparams
    from sb_espnet_vq.utils.speech_batch import SpeechBatch

    file, _, overrides = parse_arguments(arguments(corpus, tmp_path))
    hparams = load_hparams(file, overrides)
    brain = recipe.BestRQBrain(
        modules=hparams["modules"], hparams=hparams, run_opts={"device": "cpu"}
    )
    signals = [0.1 * torch.randn(n) for n in (16000, 9000, 300)]
    items = [{"id": f"u{n}", "sig": x} for n, x in enumerate(signals)]
    together = JoinShort(16000)(items)
    brain.modules.normalize.train()
    brain.features(together, epoch=0)
    brain.modules.eval()
    features = brain.features(together)
    # 300 samples make 2 frames, which is less than one stack.
    assert features.stacks.tolist() == [25, 14, 0]
    mask = brain.draw_masks(together, features, Stage.TRAIN, 1)
    assert mask[2].sum() == 0 and mask[1, 14:].sum() == 0
    for row, item in enumerate(items):
        alone = brain.features(JoinShort(16000)([item]))
        length = int(alone.lengths)
        assert length == features.lengths[row]
        assert not features.frames[row, length:].any()
        inside = alone.frames[0, :length]
        torch.testing.assert_close(features.frames[row, :length], inside)
    # Utterances too short for any mask: no loss, and a gradient all the same.
    brain.sums = type(hparams["record"])()
    short = SpeechBatch(["u2"], together.signals[2:, :300], together.samples[2:])
    predictions = brain.compute_forward(short, Stage.TRAIN)
    loss = brain.compute_objectives(predictions, short, Stage.TRAIN)
    loss.backward()
    assert loss.item() == 0.0
    assert brain.modules.linear.w.weight.grad is not None


def test_an_unknown_key_is_named_with_the_nearest_one(recipe, corpus, tmp_path):
    wrong = arguments(corpus, tmp_path, number_of_epoch=3)
    with pytest.raises(
        ConfigError, match="--number_of_epoch:.*did you mean --number_of_epochs"
    ):
        recipe.main(wrong)


def test_a_path_that_must_be_given_is_named(recipe):
    with pytest.raises(ConfigError, match="data_folder"):
        recipe.main([str(HPARAMS / "librispeech.yaml")])


def test_masks_that_split_a_stack_are_refused(recipe, corpus, tmp_path):
    wrong = arguments(corpus, tmp_path, mask_length=6)
    with pytest.raises(ConfigError, match="multiple of pad_to_divisible_by"):
        recipe.main(wrong)


def test_the_full_size_configuration_takes_a_step(recipe, corpus, tmp_path):
    small = ("d_model", "nhead", "num_encoder_layers", "d_ffn", "cb_vocab")
    options = {name: TINY[name] for name in small} | {
        "manifest": corpus / "manifest.csv",
        "data_folder": corpus,
        "output_folder": tmp_path,
        "probe_layer": 1,
        "probe_labels": "[12]",
        "probe_draws": 1,
        "number_of_epochs": 1,
        "optimizer_step_limit": 1,
        "train_num_buckets": 2,
        "avoid_if_shorter_than": 0.1,
        "num_workers": 0,
        "held_out": "[0.2, 0.3]",
        "precision": "fp32",
    }
    pairs = [str(x) for key, value in options.items() for x in (f"--{key}", value)]
    file = str(HPARAMS / "librispeech.yaml")
    recipe.main([file, "--device=cpu", "--noprogressbar", *pairs])
    assert read_results(tmp_path)["steps"] == 1


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"p_input": 39}, "p_input must be n_mels . pad_to_divisible_by = 40"),
        ({"probe_layer": 2}, "probe_layer must be in -1 ... 1"),
        ({"manifest": "missing.csv"}, "missing.csv: no such manifest"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(
    recipe, corpus, tmp_path, setting, reason
):
    with pytest.raises((ConfigError, CorpusError), match=reason):
        recipe.main(arguments(corpus, tmp_path, **setting))


def test_speech_without_labels_is_not_probed(recipe, corpus, tmp_path, capsys):
    output = tmp_path / "run"
    command = arguments(corpus, output, number_of_epochs=1)
    index = command.index("--manifest")
    command[index : index + 2] = ["--data_folder", str(corpus)]
    recipe.main(command)
    results = read_results(output)
    assert results["probe"]["rows"] == [] and results["label_purity"]["rows"] == {}
    printed = capsys.readouterr().out
    assert "left out: probe: 0 training utterances have a label" in printed
    assert "left out: label purity: the test utterances have 0" in printed
    assert (output / "results.png").exists()


@pytest.mark.slow
def test_two_ranks_train_together(two_ranks, corpus, tmp_path):
    done = two_ranks(RECIPE, arguments(corpus, tmp_path))
    # Each rank takes half of the seven batches.
    assert read_results(tmp_path)["steps"] == 2 * 4
    assert done.stdout.count("linear probe, accuracy") == 1
