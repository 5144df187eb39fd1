"""The wav2vec 2.0 recipe from audio files to results, tiny; killed and resumed."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from sb_espnet_vq.corpora import read_rows
from sb_espnet_vq.errors import ConfigError, CorpusError
from sb_espnet_vq.training.batches import JoinShort
from sb_espnet_vq.utils.speech_batch import SpeechBatch

pytest.importorskip("speechbrain")
pytest.importorskip("soundfile")

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "recipes" / "wav2vec2"
HPARAMS = ROOT / "hparams" / "wav2vec2"
SMALL = {
    "num_vars": 8,
    "final_dim": 8,
    "embedding_dim": 16,
    "nhead": 2,
    "num_encoder_layers": 1,
    "d_ffn": 16,
    "n_mels": 10,
    "probe_layer": 1,
    "probe_labels": "[12]",
    "probe_draws": 2,
    "held_out": "[0.2, 0.3]",
}
TINY = SMALL | {
    "number_of_epochs": 2,
    "seconds_per_batch": 2.0,
    "n_fft": 400,
    "latent_dim": 20,
    "stack": 2,
    "kernel_size": 3,
    "temperature": "[2.0, 0.5, 0.9]",
    "ckpt_interval_minutes": 0,
    "ckpt_interval_steps": 2,
}


def command(yaml, options):
    pairs = [str(x) for key, value in options.items() for x in (f"--{key}", value)]
    return [str(HPARAMS / yaml), "--device=cpu", "--noprogressbar", *pairs]


def arguments(corpus, output, **more):
    options = TINY | {"manifest": corpus / "manifest.csv", "output_folder": output}
    return command("fsdd.yaml", options | more)


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
    assert results["entries"] == 2 * 8
    for test in results["test"].values():
        assert 0 <= test["accuracy"] <= 1
        assert 1 / 21 <= test["chance"] < 1
        assert test["masked_frames"] > 10
        assert test["nats_above_chance"] == test["loss"] - test["chance_loss"]
        # Less than half, if features were not normalised before training too.
        assert 8 < test["perplexity"] <= 16
    frames = [sum(counts) for counts in results["code_counts"]]
    assert frames[0] == frames[1] > 100
    # The mean temperature of steps 7 ... 13.
    expected = [2 * 0.9**step for step in range(7, 14)]
    got = results["epochs"][1]["train_temperature"]
    assert min(expected) < got < max(expected)
    for row in results["label_purity"]["rows"].values():
        assert row["frames"] == frames_of_test(uninterrupted, 2)
        assert row["pnmi"] > row["shuffled"]["pnmi"] + 0.1
    assert list(results["label_purity"]["rows"]) == [
        "codes, trained",
        "codes, untrained",
    ]
    (row,) = results["probe"]["rows"]
    assert set(row["accuracy"]) == {"trained", "untrained", "log_mel"}
    assert all(len(values) == 2 for values in row["accuracy"].values())
    assert (uninterrupted / "results.png").read_bytes()[1:4] == b"PNG"


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


def test_a_run_without_its_training_speech_is_evaluated(
    recipe, corpus, uninterrupted, tmp_path
):
    run, output = shutil.copytree(uninterrupted, tmp_path / "run"), tmp_path / "out"
    origin = run / "recipe.json"
    origin.write_text(origin.read_text().replace(str(corpus), "/nowhere"))
    options = ["--manifest", corpus / "manifest.csv", "--output_folder", output]
    recipe.main(["--evaluate", str(run), "--device=cpu", *map(str, options)])
    results = json.loads((output / "results.json").read_text())
    assert list(results["test"]) == ["trained"]
    assert results["parameters"] == read_results(uninterrupted)["parameters"]
    assert list(results["label_purity"]["rows"]) == ["codes, trained"]
    for name in ("untrained_model", "probe"):
        assert "/nowhere/s" in results[name]["left_out"]


def test_the_temperature_is_in_the_checkpoint(uninterrupted):
    path = max((uninterrupted / "save").glob("CKPT*/target_quantiser.ckpt"))
    state = torch.load(path, weights_only=True)
    (step,) = (each["step"] for each in state._metadata.values() if "step" in each)
    assert step == 13


def test_fine_tuning_in_speechbrain_loads_the_checkpoint(
    recipe, corpus, tmp_path, transfer
):
    from speechbrain.lobes.models import wav2vec
    from speechbrain.lobes.models.transformer.Conformer import ConformerEncoder

    options = {"manifest": corpus / "manifest.csv", "output_folder": tmp_path}
    options |= WAVEFORM
    recipe.main(command("fsdd_waveform.yaml", options | {"number_of_epochs": 1}))
    # As in SpeechBrain's train_sb_wav2vec.yaml, with these sizes.
    extractor = wav2vec.W2VLatentExtractor([8] * 6, [11] + [3] * 5, [5] + [2] * 5)
    layers = ConformerEncoder(
        1, 16, 16, 2, 3, activation=torch.nn.GELU, attention_type="regularMHA"
    )
    wrapper = wav2vec.EncoderWrapper(8, 16, layers)
    names = {"latent_extractor": extractor, "latent_encoder": wrapper}
    assert transfer(tmp_path, names) == []
    for name, module in names.items():
        path = max((tmp_path / "save").glob(f"CKPT*/{name}.ckpt"))
        saved = torch.load(path, weights_only=True)
        for key, value in module.state_dict().items():
            assert torch.equal(value, saved[key]), key
    assert extractor.eval()(torch.randn(2, 4000)).shape[-1] == 8


def test_a_resumed_extractor_is_not_started_from_data_again(
    recipe, corpus, tmp_path, monkeypatch
):
    options = {"manifest": corpus / "manifest.csv", "output_folder": tmp_path}
    options |= WAVEFORM
    recipe.main(command("fsdd_waveform.yaml", options | {"number_of_epochs": 1}))
    path = max((tmp_path / "save").glob("CKPT*/latent_extractor.ckpt"))
    saved = torch.load(path, weights_only=True)
    begin, seen = recipe.Wav2Vec2Brain.on_fit_start, []

    def look(brain):
        begin(brain)
        seen.append(brain.hparams.latent_extractor.norm.weight.detach().clone())

    monkeypatch.setattr(recipe.Wav2Vec2Brain, "on_fit_start", look)
    recipe.main(command("fsdd_waveform.yaml", options | {"number_of_epochs": 2}))
    assert torch.equal(seen[0], saved["norm.weight"])


@pytest.fixture
def brain(recipe, corpus, tmp_path):
    from speechbrain import parse_arguments

    from sb_espnet_vq.training.start import load_hparams

    file, _, overrides = parse_arguments(arguments(corpus, tmp_path))
    hparams = load_hparams(file, overrides)
    brain = recipe.Wav2Vec2Brain(
        modules=hparams["modules"], hparams=hparams, run_opts={"device": "cpu"}
    )
    brain.sums = type(hparams["record"])()
    return brain


def sounds(*lengths):
    return [{"id": f"u{n}", "sig": 0.1 * torch.randn(n)} for n in lengths]


def test_padding_and_the_rest_of_the_batch_change_nothing(brain):
    from speechbrain.core import Stage

    items = sounds(16000, 9000, 300)
    together = JoinShort(16000)(items)
    networks = brain.networks()
    networks.front_end.gather([together])
    brain.modules.eval()
    contrast = brain.contrast(together, Stage.TEST, networks)
    parts = [
        brain.contrast(JoinShort(16000)([item]), Stage.TEST, networks) for item in items
    ]
    torch.testing.assert_close(
        contrast.logits, torch.cat([part.logits for part in parts])
    )
    assert torch.equal(contrast.counts, sum(part.counts for part in parts))
    # The same speech with more padding: the same diversity loss.
    longer = together._replace(
        signals=torch.nn.functional.pad(together.signals, (0, 9999))
    )
    padded = brain.contrast(longer, Stage.TEST, networks)
    torch.testing.assert_close(padded.diversity, contrast.diversity)
    torch.testing.assert_close(padded.logits, contrast.logits)


def test_masks_and_negatives_are_new_in_training_and_the_same_in_evaluation(brain):
    from speechbrain.core import Stage

    batch, networks = JoinShort(16000)(sounds(16000)), brain.networks()
    brain.modules.eval()

    def logits(stage, epoch):
        brain.hparams.epoch_counter.current = epoch
        return brain.contrast(batch, stage, networks).logits.tolist()

    assert logits(Stage.VALID, 1) == logits(Stage.VALID, 2) == logits(Stage.TEST, 0)
    assert logits(Stage.TRAIN, 1) == logits(Stage.TRAIN, 1)
    assert logits(Stage.TRAIN, 1) != logits(Stage.TRAIN, 2)


@pytest.mark.parametrize("samples", [100, 200])
def test_speech_too_short_to_mask_gives_no_loss_and_a_gradient_all_the_same(
    brain, samples
):
    from speechbrain.core import Stage

    brain.modules.train()
    # No latent frame, and one.
    signals = 0.1 * torch.randn(1, samples)
    short = SpeechBatch(["u"], signals, torch.tensor([samples]))
    contrast = brain.compute_forward(short, Stage.TRAIN)
    loss = brain.compute_objectives(contrast, short, Stage.TRAIN)
    loss.backward()
    assert contrast.logits.shape == (0, 21)
    assert brain.summarise(brain.sums.running)["accuracy"] == 0
    parameters = [p for p in brain.modules.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)


def test_codes_are_counted_without_quantizing_again(brain, monkeypatch):
    from speechbrain.core import Stage

    batch, networks = JoinShort(16000)(sounds(16000, 9000)), brain.networks()
    brain.modules.train()
    latents = brain.latents(batch, networks)
    quantizer = networks.target_quantiser.quantiser.quantizer
    codes = quantizer.encode(latents.frames[latents.valid])
    expected = torch.stack([torch.bincount(c, minlength=8) for c in codes.T])
    monkeypatch.setattr(type(quantizer), "encode", None)
    contrast = brain.contrast(batch, Stage.TRAIN, networks)
    assert torch.equal(contrast.counts, expected)


def test_collapse_is_no_better_than_chance(brain):
    from speechbrain.core import Stage

    batch, networks = JoinShort(16000)(sounds(16000)), brain.networks()
    brain.modules.eval()
    with torch.no_grad():
        for parameter in networks.target_quantiser.quantiser.quantizer.parameters():
            parameter.zero_()
    brain.count(brain.sums, brain.contrast(batch, Stage.TEST, networks))
    collapsed = brain.summarise(brain.sums.running)
    assert collapsed["accuracy"] == collapsed["chance"] == 1
    assert collapsed["nats_above_chance"] == 0
    assert collapsed["perplexity"] == 2


# The swap matrix trains all of them.
@pytest.mark.parametrize("quantizer_name", ["bsq", "random_projection", "rvq", "split"])
def test_another_quantizer_trains(recipe, corpus, tmp_path, quantizer_name):
    conf = {"rvq": "{n_codebooks: 3, decay: 0.9}"}.get(quantizer_name, "{}")
    recipe.main(
        arguments(
            corpus,
            tmp_path,
            quantizer=quantizer_name,
            quantizer_conf=conf,
            number_of_epochs=1,
            probe_draws=1,
        )
    )
    results = read_results(tmp_path)
    codebooks = {"bsq": 1, "random_projection": 2, "rvq": 3, "split": 2}
    assert results["entries"] == 8 * codebooks[quantizer_name]
    assert math.isfinite(results["test"]["trained"]["loss"])


def test_an_unknown_key_is_named_with_the_nearest_one(recipe, corpus, tmp_path):
    wrong = arguments(corpus, tmp_path, num_negative=3)
    with pytest.raises(ConfigError, match="did you mean --num_negatives"):
        recipe.main(wrong)


def test_a_path_that_must_be_given_is_named(recipe):
    with pytest.raises(ConfigError, match="data_folder"):
        recipe.main([str(HPARAMS / "librispeech.yaml")])


WAVEFORM = SMALL | {
    "extractor_channels": "[8, 8, 8, 8, 8, 8]",
    "latent_dim": 8,
    "n_fft": 400,
    "kernel_size": 3,
}
FULL_SIZE = SMALL | {
    "extractor_channels": "[8, 8, 8, 8, 8, 8, 8]",
    "latent_dim": 8,
    "train_num_buckets": 2,
    "avoid_if_shorter_than": 0.1,
    "precision": "fp32",
    "grad_accumulation_factor": 1,
}


@pytest.mark.parametrize(
    ("yaml", "options"),
    [("fsdd_waveform.yaml", WAVEFORM), ("librispeech.yaml", FULL_SIZE)],
)
def test_the_other_configurations_take_a_step(recipe, corpus, tmp_path, yaml, options):
    options = options | {
        "manifest": corpus / "manifest.csv",
        "data_folder": corpus,
        "output_folder": tmp_path,
        "number_of_epochs": 1,
        "optimizer_step_limit": 1,
        "num_workers": 0,
    }
    recipe.main(command(yaml, options))
    results = read_results(tmp_path)
    assert results["steps"] == 1
    assert results["test"]["untrained"]["masked_frames"] > 10


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (
            {"num_negatives": 0},
            "num_negatives must be a whole number of at least 1, not 0",
        ),
        ({"mask_length": 2.5}, "mask_length must be a whole number .* not 2.5"),
        ({"mask_prob": 0}, "mask_prob must be a number above 0 and at most 1"),
        ({"logit_temperature": 0}, "logit_temperature must be a number above 0"),
        ({"diversity_weight": -1}, "diversity_weight must be a number of at least 0"),
        ({"probe_layer": 2}, "probe_layer must be 1 ... 1"),
        ({"latent_dim": 30}, "latent_dim must be n_mels . stack = 20"),
        ({"quantizer": "gumble"}, "gumble"),
        ({"quantizer_conf": "{decay: 0.9}"}, "decay"),
        ({"temperature": "[2.0, 0.5]"}, "temperature"),
        ({"manifest": "missing.csv"}, "missing.csv: no such manifest"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(
    recipe, corpus, tmp_path, setting, reason
):
    output = tmp_path / "run"
    with pytest.raises((ConfigError, CorpusError), match=reason):
        recipe.main(arguments(corpus, output, **setting))
    assert not (output / "train.csv").exists()


def test_speech_without_labels_is_not_probed(recipe, corpus, tmp_path):
    output = tmp_path / "run"
    words = arguments(corpus, output, number_of_epochs=1)
    index = words.index("--manifest")
    words[index : index + 2] = ["--data_folder", str(corpus)]
    recipe.main(words)
    results = read_results(output)
    assert results["probe"]["rows"] == [] and results["label_purity"]["rows"] == {}
    assert (output / "results.png").exists()


@pytest.mark.slow
def test_two_ranks_train_together(two_ranks, corpus, tmp_path):
    done = two_ranks(RECIPE, arguments(corpus, tmp_path))
    # Each rank takes half of the seven batches.
    assert read_results(tmp_path)["steps"] == 2 * 4
    assert done.stdout.count("linear probe, accuracy") == 1
