"""The PIQ recipe from sounds to explanations, tiny; killed and resumed."""

import csv
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from sb_espnet_vq.errors import ConfigError, CorpusError
from sb_espnet_vq.registry import find_quantizer

pytest.importorskip("speechbrain")
soundfile = pytest.importorskip("soundfile")

from sb_espnet_vq.errors import CheckpointError  # noqa: E402
from sb_espnet_vq.utils.run_lock import lock_folder  # noqa: E402

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "recipes" / "PIQ"
HPARAMS = ROOT / "hparams" / "PIQ"
# Spectrograms that train in no time.
SMALL = {
    "n_classes": 2,
    "n_fft": 128,
    "win_length": 128,
    "hop_length": 64,
    "frames": 33,
    "dim": 6,
    "codebook_size": 12,
    "seconds_per_batch": 4.0,
    "avoid_if_shorter_than": 0.1,
    "num_workers": 0,
}
TINY = SMALL | {
    "classifier_epochs": 6,
    "classifier_lr": 0.02,
    "piq_epochs": 6,
    "piq_lr": 0.02,
    "warmup_steps": 2,
    "held_out": "[0.1, 0.2]",
    "ckpt_interval_minutes": 0,
    "ckpt_interval_steps": 2,
}
SCRIPTS = {"classifier": "train_classifier", "piq": "train"}
MASKS = ["trained", "untrained", "random", "all ones", "another's"]


def arguments(corpus, output, file="fsdd.yaml", **more):
    options = TINY | {"manifest": corpus / "manifest.csv", "output_folder": output}
    options |= more
    pairs = [str(x) for key, value in options.items() for x in (f"--{key}", value)]
    return [str(HPARAMS / file), "--device=cpu", "--noprogressbar", *pairs]


@pytest.fixture(scope="module")
def recipe(load_recipe):
    """The recipe's scripts, imported as their launch commands would."""
    with (
        load_recipe(RECIPE, "train_classifier") as train_classifier,
        load_recipe(RECIPE, "train") as train,
        load_recipe(RECIPE, "explain") as explain,
    ):
        yield {
            "classifier": train_classifier.main,
            "piq": train.main,
            "explain": explain.main,
        }


def read_results(output, training):
    results = json.loads((output / training / "results.json").read_text())
    results.pop("seconds")
    return results


@pytest.fixture(scope="module")
def uninterrupted(recipe, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    for training in ("classifier", "piq"):
        recipe[training](arguments(corpus, output))
    return output


def test_both_trainings_end_with_results_and_plots(uninterrupted):
    classifier, piq = (read_results(uninterrupted, n) for n in ("classifier", "piq"))
    assert classifier["classes"] == piq["classes"] == ["high", "low"]
    assert classifier["accuracy"] == piq["accuracy"] >= 0.75
    assert set(classifier["accuracy_by_class"]) <= {"high", "low"}
    for results in (classifier, piq):
        assert [epoch["epoch"] for epoch in results["epochs"]] == [1, 2, 3, 4, 5, 6]
        assert results["epochs"][-1]["train_loss"] < results["epochs"][0]["train_loss"]
    assert list(piq["masks"]) == MASKS
    for row in piq["masks"].values():
        assert 0 <= row["input_fidelity"] <= 1
        assert -1 <= row["faithfulness"] <= 1
        for name in ("average_increase", "average_drop", "average_gain"):
            assert 0 <= row[name] <= 100
    assert 1 <= piq["keys"]["perplexity"] <= piq["keys"]["used"] <= 12
    for training in ("classifier", "piq"):
        png = (uninterrupted / training / "results.png").read_bytes()
        assert png[1:4] == b"PNG"


def test_the_masks_that_it_is_held_against_are_what_they_are_called(uninterrupted):
    masks = read_results(uninterrupted, "piq")["masks"]
    ones = masks["all ones"]
    assert ones["input_fidelity"] == ones["mask_density"] == 1
    assert [ones[f"average_{x}"] for x in ("increase", "drop", "gain")] == [0, 0, 0]
    trained, random = masks["trained"], masks["random"]
    assert random["mask_density"] == pytest.approx(trained["mask_density"], abs=1e-6)
    assert random["average_drop"] != trained["average_drop"]


def test_a_random_mask_has_the_values_of_the_trained_one_elsewhere(recipe):
    from evaluate import shuffled

    masks = torch.rand(3, 33, 65)
    found = shuffled(masks, ["a", "b", "a"])
    assert torch.equal(found.flatten(1).sort()[0], masks.flatten(1).sort()[0])
    assert (found != masks).float().mean() > 0.99
    assert torch.equal(shuffled(masks[:1], ["a"])[0], found[0])
    # Equal names are moved equally, whatever else is in the batch.
    assert torch.equal(shuffled(masks[2:], ["a"])[0], found[2])


def test_a_class_that_follows_another_clips_mask_is_counted(recipe):
    from evaluate import follows

    # Each clip lies under the mask of the one before it, the first under the last's.
    classes, predicted = torch.tensor([0, 1, 1, 2]), torch.tensor([2, 1, 0, 1])
    kept = torch.nn.functional.one_hot(predicted, 3).double()
    # The third clip has the class of the previous one and does not count.
    assert follows(kept, classes).tolist() == [1, 0, 1]


def test_the_classifier_is_never_changed(recipe, uninterrupted):
    from networks import SoundClassifier
    from runs import load_classifier, load_run, section

    from sb_espnet_vq.training.start import load_hparams

    hparams = load_run(uninterrupted)
    after = hparams["classifier"].state_dict()
    yaml = load_hparams(str(uninterrupted / "hyperparams.yaml"), {})
    assert isinstance(yaml["classifier"], SoundClassifier)
    load_classifier(yaml)
    before = yaml["classifier"].state_dict()
    assert {name for name in before if "running_mean" in name}
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    assert "classifier" not in section(yaml, "piq")["modules"]


def test_a_run_of_an_earlier_version_is_loaded(recipe, uninterrupted, tmp_path):
    from runs import load_run

    shutil.copytree(uninterrupted, tmp_path / "run")
    yaml = tmp_path / "run" / "hyperparams.yaml"
    text = yaml.read_text().replace("!new:networks.", "!new:piq_models.")
    yaml.write_text(text)
    assert text.count("piq_models") == 3
    assert load_run(tmp_path / "run")["interpreter"]


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_results(
    kill_run, recipe, corpus, uninterrupted, tmp_path
):
    command = arguments(corpus, tmp_path)
    for training in ("classifier", "piq"):
        kill_run(RECIPE, command, step=17, script=SCRIPTS[training])
        assert not (tmp_path / training / "results.json").exists()
        recipe[training](command)
        assert read_results(tmp_path, training) == read_results(uninterrupted, training)
        # This process has the folder until it ends or locks another one.
        lock_folder(tmp_path / "other")


def test_piq_without_a_classifier_says_what_to_run_first(recipe, corpus, tmp_path):
    with pytest.raises(CheckpointError, match=r"first run train_classifier\.py"):
        recipe["piq"](arguments(corpus, tmp_path))
    with pytest.raises(CheckpointError, match="no run of this recipe"):
        recipe["explain"]([str(corpus / "s01.wav"), "--run", str(tmp_path / "none")])


@pytest.mark.parametrize("setting", [{"dim": 8}, {"hop_length": 32}, {"seed": 7}])
def test_a_classifier_of_other_settings_is_refused(
    recipe, corpus, uninterrupted, tmp_path, setting
):
    ((name, value),) = setting.items()
    shutil.copytree(uninterrupted / "classifier", tmp_path / "classifier")
    shutil.copy(uninterrupted / "hyperparams.yaml", tmp_path)
    before = (tmp_path / "hyperparams.yaml").read_bytes()
    for training in ("piq", "classifier"):
        with pytest.raises(ConfigError, match=f"{name} is {value}, but the classifier"):
            recipe[training](arguments(corpus, tmp_path, **setting))
    assert (tmp_path / "hyperparams.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("quantizer", "conf"),
    [("rvq", "{n_codebooks: 2, kmeans_iters: 2}"), ("bsq", "{codebook_size: 16}")],
)
def test_another_quantizer_trains_by_name(
    recipe, corpus, uninterrupted, tmp_path, quantizer, conf
):
    (tmp_path / "classifier").symlink_to(uninterrupted / "classifier")
    settings = {"piq_epochs": 2, "quantizer": quantizer, "quantizer_conf": conf}
    recipe["piq"](arguments(corpus, tmp_path, **settings))
    results = read_results(tmp_path, "piq")
    assert results["quantizer"] == quantizer
    assert results["keys"]["used"] >= 1
    from runs import load_run

    codebook = load_run(tmp_path)["interpreter"].psi.codebook
    assert type(codebook.quantizer) is find_quantizer(quantizer)


def explained(folder, name):
    files = {path.name: path for path in folder.iterdir()}
    assert (folder / f"{name}.png").read_bytes()[1:4] == b"PNG"
    audio = soundfile.info(files[f"{name}.interpretation.wav"])
    return json.loads(files[f"{name}.json"].read_text()), audio


def test_sounds_are_explained_with_picture_audio_and_results(
    recipe, corpus, uninterrupted, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    # Longer than the classifier's input (0.256 s), and shorter.
    files = [str(corpus / name) for name in ("s21.wav", "s02.wav")]
    output = tmp_path / "out"
    recipe["explain"]([*files, "--run", str(uninterrupted), "--output", str(output)])
    assert len(list(output.iterdir())) == 6
    printed = capsys.readouterr().out
    for name, seconds in (("s21", 0.62), ("s02", 0.24)):
        metrics, audio = explained(output, name)
        assert metrics["class"] in ("high", "low")
        assert 0.5 <= metrics["probability"] <= 1
        assert f"{metrics['class']}, {100 * metrics['probability']:.1f} %" in printed
        assert metrics["seconds_heard"] == pytest.approx(min(seconds, 0.256), abs=1e-3)
        assert (audio.samplerate, audio.frames) == (8000, round(8000 * seconds))
    assert "used only the first 0.26 of 0.62 s" in printed
    # Nothing is made where it was started.
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_interpretation_is_the_sound_under_the_mask(recipe, corpus, uninterrupted):
    from explanation import explain, read_sound
    from runs import load_run

    hparams = load_run(uninterrupted)
    sound = read_sound(corpus / "s02.wav", 8000)

    def explained_by(mask):
        class Constant(torch.nn.Module):
            def forward(self, representation, classes):
                return types.SimpleNamespace(mask=mask)

        return explain(sound, hparams | {"interpreter": Constant()})

    whole = explained_by(torch.ones(1, 33, 65))
    torch.testing.assert_close(whole.audio, sound, atol=1e-4, rtol=0)
    assert whole.kept == whole.probability
    silent = explained_by(torch.zeros(1, 33, 65))
    assert float(silent.audio.abs().max()) == 0
    assert silent.left == silent.probability == whole.probability
    # Of a sound that is longer than the classifier hears, the rest is not explained.
    sound = read_sound(corpus / "s21.wav", 8000)
    assert not explained_by(torch.ones(1, 33, 65)).audio[2048:].any()


def test_bad_sounds_are_named_and_nothing_is_written(
    recipe, corpus, uninterrupted, tmp_path
):
    output = tmp_path / "out"
    good, empty, text = corpus / "s01.wav", tmp_path / "empty.wav", tmp_path / "a.wav"
    empty.touch()
    text.write_text("no sound")
    infinite = tmp_path / "infinite.wav"
    soundfile.write(infinite, [0.1, float("inf"), 0.2], 8000, "FLOAT")
    for bad, reason in [
        (empty, "empty.wav: empty file"),
        (text, "a.wav: not readable as audio"),
        (infinite, "infinite.wav: it has samples that are NaN or infinite"),
        (tmp_path / "missing.wav", "missing.wav: no such file"),
    ]:
        with pytest.raises(CorpusError, match=reason):
            recipe["explain"](
                [str(good), str(bad), f"--run={uninterrupted}", f"--output={output}"]
            )
    with pytest.raises(ConfigError, match=r"s01.wav is given twice"):
        recipe["explain"]([str(good), str(good), f"--run={uninterrupted}"])
    assert not output.exists()


def test_files_of_one_name_do_not_overwrite_each_other(recipe):
    from explain import unique_names

    paths = [Path("a/x.wav"), Path("b/x.wav"), Path("/c/x.flac"), Path("y.wav")]
    assert unique_names(paths) == ["a_x.wav", "b_x.wav", "_c_x.flac", "y"]


def write_esc50(folder):
    """A folder laid out as ESC-50-master: 10 clips of real length, of two kinds."""
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    header = "filename,fold,target,category,esc10,src_file,take".split(",")
    with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for n in range(10):
            fold, kind = n % 5 + 1, n % 2
            name = f"{fold}-{1000 + n}-A-{kind}.wav"
            sound = 0.1 * torch.randn(8000 * 5).cumsum(0 if kind else -1).sin()
            soundfile.write(folder / "audio" / name, sound.numpy(), 8000)
            category = ["dog", "rain"][kind]
            writer.writerow([name, fold, kind, category, n != 0, 1000 + n, "A"])


@pytest.mark.parametrize(("file", "clips"), [("esc10.yaml", 7), ("esc50.yaml", 8)])
def test_the_configurations_of_esc50_take_a_step(recipe, tmp_path, file, clips):
    write_esc50(tmp_path / "ESC-50-master")
    options = {"output_folder": tmp_path / "run", "n_classes": 2, "num_workers": 0}
    options |= {"data_folder": tmp_path / "ESC-50-master", "optimizer_step_limit": 1}
    options |= {"dim": 4, "codebook_size": 8, "classifier_epochs": 1, "piq_epochs": 1}
    pairs = [str(x) for key, value in options.items() for x in (f"--{key}", value)]
    command = [str(HPARAMS / file), "--device=cpu", "--noprogressbar", *pairs]
    for training in ("classifier", "piq"):
        recipe[training](command)
        results = read_results(tmp_path / "run", training)
        assert results["steps"] == 1
        assert results["clips"]["train"] + results["clips"]["valid"] == clips


@pytest.mark.parametrize("file", ["fsdd.yaml", "esc10.yaml", "esc50.yaml"])
def test_every_configuration_builds_in_its_full_size(recipe, tmp_path, file):
    from sb_espnet_vq.training.start import load_hparams

    overrides = {"output_folder": str(tmp_path)}
    if file != "fsdd.yaml":
        overrides["data_folder"] = "ESC-50-master"
    assert load_hparams(str(HPARAMS / file), overrides)["interpreter"]
    # Narrower, since only the sizes of time and frequency matter from here on.
    hparams = load_hparams(str(HPARAMS / file), overrides | {"dim": 4})
    spectrogram = hparams["spectrogram"]
    heard = spectrogram(torch.randn(1, spectrogram.samples))
    hparams["classifier"].eval(), hparams["interpreter"].eval()
    with torch.no_grad():
        representation, logits = hparams["classifier"](heard)
        found = hparams["interpreter"](representation, logits.argmax(1))
    assert found.mask.shape == heard.shape
    assert logits.shape == (1, hparams["n_classes"])


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"quantizer": "rvqq"}, "unknown quantizer 'rvqq'.*did you mean 'rvq'"),
        ({"quantizer_conf": "{decai: 1}"}, "no option 'decai'"),
        ({"frames": 64}, "frames must be a multiple of 32 and one more"),
        ({"n_fft": 100}, "n_fft must be a multiple of 64"),
        ({"hop_length": 200}, "hop_length 200 must be below win_length 128"),
        ({"codebook_size": 1}, "key"),
        (
            {"mask_threshold": 1.5},
            "mask_threshold must be a number above 0 and below 1",
        ),
        ({"fidelity_weight": -1.0}, "fidelity_weight must be a number of at least 0"),
        ({"n_classes": 3}, "has 2 classes .*give --n_classes 2"),
        ({"train_folds": "[1]", "test_folds": "[2]"}, "has no column fold"),
        ({"manifest": "missing.csv"}, "missing.csv: no such manifest"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_training(
    recipe, corpus, tmp_path, setting, reason
):
    for training in ("classifier", "piq"):
        if training == "piq" and ("n_classes" in setting):
            continue
        with pytest.raises((ConfigError, CorpusError), match=reason):
            recipe[training](arguments(corpus, tmp_path / "run", **setting))
    assert not list((tmp_path / "run").glob("*/results.json"))


def test_clips_without_a_label_are_refused(recipe, corpus, tmp_path):
    lines = ["wav", *(str(path) for path in sorted(corpus.glob("*.wav")))]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    with pytest.raises(CorpusError, match="needs a manifest with a column label"):
        recipe["classifier"](arguments(corpus, tmp_path, manifest=manifest))


@pytest.mark.slow
def test_one_command_runs_both_trainings(corpus, tmp_path):
    settings = {"classifier_epochs": 1, "piq_epochs": 1, "optimizer_step_limit": 1}
    options = arguments(corpus, tmp_path / "run", **settings)[1:]
    command = [sys.executable, "-m", "sb_espnet_vq.cli", "run", "piq", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    for training in ("classifier", "piq"):
        assert read_results(tmp_path / "run", training)["best_epoch"] == 1
