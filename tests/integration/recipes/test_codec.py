"""The codec recipe from audio files to results, tiny; killed and resumed."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from sb_espnet_vq.errors import ConfigError, CorpusError

pytest.importorskip("speechbrain")
pytest.importorskip("pystoi")
soundfile = pytest.importorskip("soundfile")

from saved_runs import save_run  # noqa: E402

from sb_espnet_vq.errors import CheckpointError  # noqa: E402
from sb_espnet_vq.training.refit import refit_run  # noqa: E402

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "recipes" / "codec"
HPARAMS = ROOT / "hparams" / "codec"
TINY = {
    "number_of_epochs": 2,
    "seconds_per_batch": 4.0,
    "join_seconds": 1.0,
    "segment_seconds": 0.25,
    "dim": 8,
    "channels": 4,
    "residual_units": 1,
    "codebook_size": 16,
    "n_codebooks": 4,
    "quantizer_conf": "{kmeans_iters: 2}",
    "bandwidths": "[0.4, 1.6]",
    "reconstructions": 1,
    "metrics": "[si_sdr, mel_distance, stoi]",
    "held_out": "[0.1, 0.2]",
    "ckpt_interval_minutes": 0,
    "ckpt_interval_steps": 2,
}


def arguments(corpus, output, file="fsdd.yaml", **more):
    options = TINY | {"manifest": corpus / "manifest.csv", "output_folder": output}
    options |= more
    pairs = [str(x) for key, value in options.items() for x in (f"--{key}", value)]
    return [str(HPARAMS / file), "--device=cpu", "--noprogressbar", *pairs]


def read_results(output):
    """Return the results without times."""
    results = json.loads((output / "results.json").read_text())
    results.pop("seconds")
    for row in results["bandwidths"]:
        for model in {"trained", "untrained", "beam"} & set(row):
            row[model] = without_times(row[model])
    return results


def without_times(metrics):
    return {k: v for k, v in metrics.items() if "real_time_factor" not in k}


ADVERSARIAL = {"adversarial_weight": 1.0, "adversarial_start": 3}


@pytest.fixture(scope="module")
def uninterrupted(recipe, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    recipe.main(arguments(corpus, output, **ADVERSARIAL))
    return output


def test_it_ends_with_results_plots_and_audio(uninterrupted):
    results = read_results(uninterrupted)
    assert [epoch["epoch"] for epoch in results["epochs"]] == [1, 2]
    assert results["frame_rate"] == 100
    low, high = results["bandwidths"]
    for model in ("trained", "untrained"):
        # Whole frames count, so that the rate is a little above the nominal one.
        assert 0.4 <= low[model]["bitrate"] < 0.41
        assert 1.6 <= high[model]["bitrate"] < 1.64
        assert low[model]["entropy_bitrate"] <= low[model]["bitrate"]
        assert 1 <= high[model]["perplexity"] <= high[model]["used_codes"] <= 16
        assert -1 <= high[model]["stoi"] <= 1
    for name in ("results.png", "reconstructions.png"):
        assert (uninterrupted / name).read_bytes()[1:4] == b"PNG"
    (folder,) = (uninterrupted / "reconstructions").iterdir()
    files = {path.name: soundfile.info(path) for path in folder.iterdir()}
    assert set(files) == {"original.wav", "0.4kbps.wav", "1.6kbps.wav"}
    assert {(each.samplerate, each.frames) for each in files.values()} == {
        (8000, files["original.wav"].frames)
    }


def test_a_run_is_evaluated_at_other_bandwidths(recipe, uninterrupted, tmp_path):
    """A run of an earlier version, whose YAML has no key beam."""
    run = shutil.copytree(uninterrupted, tmp_path / "run")
    yaml = (run / "hyperparams.yaml").read_text()
    assert "\nbeam: 1\n" in yaml
    (run / "hyperparams.yaml").write_text(yaml.replace("\nbeam: 1\n", "\n"))
    options = ["--bandwidths", "[0.8, 1.6]", "--beam", "2", "--metrics", "[si_sdr]"]
    recipe.main(["--evaluate", str(run), "--device=cpu", *options])
    results = json.loads((run / "eval" / "test" / "results.json").read_text())
    low, high = results["bandwidths"]
    assert 0.8 <= low["trained"]["bitrate"] < 0.82
    assert results["beam"] == 2 and high["beam"].keys() == high["trained"].keys()
    reported = read_results(uninterrupted)["bandwidths"][1]
    # Also the untrained codec has the same weights.
    for model in ("trained", "untrained"):
        assert without_times(high[model]).items() <= reported[model].items()
    for option, value, reason in (
        ("--beam", "0", "must be a whole number of at least 1"),
        ("--probe_draws", "1", ".* has no such key"),
    ):
        with pytest.raises(ConfigError, match=f"{option}:? {reason}"):
            recipe.main(["--evaluate", str(run), option, value])


def test_training_brings_audio_nearer(uninterrupted):
    for row in read_results(uninterrupted)["bandwidths"]:
        trained, untrained = row["trained"], row["untrained"]
        assert trained["mel_distance"] < untrained["mel_distance"] - 1


@pytest.mark.slow
def test_quantizers_nest_in_yaml(recipe, corpus, tmp_path):
    conf = (
        "{n_groups: 2, quantizer: residual, quantizer_conf: {n_codebooks: 2, "
        "quantizer: fsq, quantizer_conf: {levels: [4, 4]}}}"
    )
    nested = {"quantizer": "grouped", "quantizer_conf": conf, "number_of_epochs": 1}
    recipe.main(arguments(corpus, tmp_path, **nested))
    low, high = read_results(tmp_path)["bandwidths"]
    # One and all of four codes of 16 values, 100 times a second.
    assert 0.4 <= low["trained"]["bitrate"] < 0.41
    assert 1.6 <= high["trained"]["bitrate"] < 1.64
    assert 1 <= high["trained"]["used_codes"] <= 16
    with pytest.raises(CheckpointError, match="another quantizer than 'rvq'"):
        recipe.main(arguments(corpus, tmp_path, number_of_epochs=2))


def test_a_trained_codec_is_loaded_and_gives_the_reported_results(
    recipe, uninterrupted, tmp_path, monkeypatch
):
    from measure import choose_measures, measure
    from measure import test_signals as joined_signals

    from sb_espnet_vq.training.data import read_datasets
    from sb_espnet_vq.training.start import load_hparams
    from sb_espnet_vq.training.trained import load_trained

    hparams = load_hparams(str(uninterrupted / "hyperparams.yaml"), {})
    strings = list(joined_signals(read_datasets(hparams)["test"], hparams))
    # Wherever it is loaded from, nothing is made there.
    monkeypatch.chdir(tmp_path)
    codec = load_trained(uninterrupted, "codec", min_key="mel")
    reported = read_results(uninterrupted)["bandwidths"][1]
    summary = measure(codec, strings, 1.6, choose_measures(hparams))
    assert without_times(summary.means) == reported["trained"]
    assert summary.counts == reported["utterances"]
    for name, (low, high) in reported["intervals"].items():
        assert low < reported["trained"][name] < high
    assert not list(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="no run of a recipe"):
        load_trained(tmp_path, "codec")
    # A YAML key with a saved part, and one without.
    for name in ("encoder", "code"):
        with pytest.raises(
            CheckpointError,
            match=f"no module '{name}' was saved; there are codec, disc",
        ):
            load_trained(uninterrupted, name, min_key="mel")
    with pytest.raises(CheckpointError, match="no checkpoint with a metric 'nats'"):
        load_trained(uninterrupted, "codec", min_key="nats")


def test_a_finished_run_is_evaluated_with_a_beam(
    recipe, corpus, uninterrupted, tmp_path, capsys
):
    copy = shutil.copytree(uninterrupted, tmp_path / "run")
    recipe.main(arguments(corpus, copy, beam=4, **ADVERSARIAL))
    results, before = read_results(copy), read_results(uninterrupted)
    assert results.pop("beam") == 4
    beams = [row.pop("beam") for row in results["bandwidths"]]
    assert results == before
    # The first codebook alone has no chain; with four, codes differ.
    first, last = (row["trained"] for row in results["bandwidths"])
    assert beams[0] == first and beams[1] != last
    assert f"{beams[1]['mel_distance']:.3f}" in capsys.readouterr().out


def test_a_refitted_codec_is_a_new_run_that_is_closer(
    recipe, uninterrupted, tmp_path, capsys
):
    from measure import choose_measures, measure
    from measure import test_signals as joined_signals

    from sb_espnet_vq.cli.main import main
    from sb_espnet_vq.training.data import read_datasets
    from sb_espnet_vq.training.trained import load_trained, read_run

    def content():
        # The recipe still has its log file open.
        files = [p for p in uninterrupted.rglob("*") if p.name != "log.txt"]
        return {p: p.read_bytes() for p in files if p.is_file()}

    before = content()
    output = tmp_path / "new" / "run"
    command = ["refit", str(uninterrupted), "--output", str(output), "--beam", "3"]
    assert main(command) == 0
    assert content() == before
    assert not list(output.parent.glob(".*"))
    report = json.loads((output / "refit.json").read_text())
    # Of the training set, for the search with the beam.
    assert report["errors"][0] == 1 and min(report["errors"]) < 0.97
    old, new = (load_trained(run, "codec", "mel") for run in (uninterrupted, output))
    for name, value in old.state_dict().items():
        changed = not torch.equal(value, new.state_dict()[name])
        assert changed == name.endswith((".embed", ".embed_avg")), name
    hparams = read_run(output) | {"output_folder": str(output)}
    strings = list(joined_signals(read_datasets(hparams)["test"], hparams))
    row = next(
        row
        for row in report["results"]
        if row["codec"] == "after" and row["beam"] == 3 and row["kbps"] == 1.6
    )
    measured = measure(new, strings, 1.6, choose_measures(hparams), beam=3).means
    assert row["mel_distance"] == pytest.approx(measured["mel_distance"])
    assert row["si_sdr"] == pytest.approx(measured["si_sdr"])
    assert f"{row['snr']:.3f}" in capsys.readouterr().out
    assert main(command) == 2
    assert f"{output} exists" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_results(
    kill_run, recipe, corpus, uninterrupted, tmp_path
):
    command = arguments(corpus, tmp_path, **ADVERSARIAL)
    kill_run(RECIPE, command, step=5)
    assert not (tmp_path / "results.json").exists()
    recipe.main(command)
    assert read_results(tmp_path) == read_results(uninterrupted)


@pytest.mark.parametrize(
    ("quantizer", "conf"),
    [("bsq", "{}"), ("espnet_quantizer.ESPnetRVQ", "{kmeans_iters: 2}")],
)
def test_another_quantizer_trains_by_name(recipe, corpus, tmp_path, quantizer, conf):
    if "espnet" in quantizer:
        pytest.importorskip("espnet2")
    settings = {"number_of_epochs": 1, "quantizer": quantizer, "quantizer_conf": conf}
    recipe.main(arguments(corpus, tmp_path, **settings))
    rows = read_results(tmp_path)["bandwidths"]
    # One codebook has one rate, whatever was asked for.
    assert len(rows) == (1 if quantizer == "bsq" else 2)
    output = tmp_path / "refitted"
    with pytest.raises(ConfigError, match="cannot be replaced"):
        refit_run(tmp_path, output, print)
    assert not output.exists()


def test_espnets_quantizer_keeps_the_contract_that_the_codec_relies_on(recipe):
    pytest.importorskip("espnet2")
    from espnet_quantizer import ESPnetRVQ

    torch.manual_seed(0)
    quantizer = ESPnetRVQ(dim=8, codebook_size=16, n_codebooks=4, kmeans_iters=2)
    x, mask = torch.randn(3, 50, 8), torch.arange(50) < torch.tensor([[50], [20], [5]])
    quantizer(x, mask=mask)
    quantizer.eval()
    for used in (2, 4):
        out = quantizer(x, mask=mask, n_codebooks=used)
        codes = quantizer.encode(x, mask=mask, n_codebooks=used)
        assert torch.equal(out.codes, codes) and codes.shape == (3, 50, used)
        torch.testing.assert_close(quantizer.decode(codes), out.quantized)


@pytest.mark.slow
def test_the_full_size_configuration_takes_a_step(recipe, corpus, tmp_path):
    small = ("dim", "channels", "residual_units", "codebook_size", "n_codebooks")
    options = {name: TINY[name] for name in small} | {
        "manifest": corpus / "manifest.csv",
        "data_folder": corpus,
        "output_folder": tmp_path,
        "bandwidths": "[0.3, 1.2]",
        "number_of_epochs": 1,
        "optimizer_step_limit": 1,
        "adversarial_start": 0,
        "avoid_if_shorter_than": 0.1,
        "seconds_per_batch": 2,
        "num_workers": 0,
        "held_out": "[0.1, 0.1]",
        "precision": "fp32",
    }
    pairs = [str(x) for key, value in options.items() for x in (f"--{key}", value)]
    file = str(HPARAMS / "libritts.yaml")
    recipe.main([file, "--device=cpu", "--noprogressbar", *pairs])
    assert read_results(tmp_path)["steps"] == 1


def test_codebooks_that_no_bandwidth_trains_are_named(recipe, tmp_path, caplog):
    from sb_espnet_vq.training.start import load_hparams

    settings = {"output_folder": str(tmp_path), "n_codebooks": 4}
    codec = load_hparams(str(HPARAMS / "fsdd.yaml"), settings)["codec"]
    recipe.warn_untrained(codec, [0.8, 3.2])
    assert "not trained" not in caplog.text
    recipe.warn_untrained(codec, [0.8, 1.6])
    assert "use 2 of 4 codebooks, and the others are not trained" in caplog.text
    assert "set n_codebooks: 2" in caplog.text


def test_the_full_size_codec_has_the_bandwidths_it_names(recipe, tmp_path):
    from sb_espnet_vq.training.start import load_hparams

    settings = {"data_folder": str(tmp_path), "output_folder": str(tmp_path)}
    hparams = load_hparams(str(HPARAMS / "libritts.yaml"), settings)
    recipe.check_settings(hparams)
    codec = hparams["codec"].eval()
    assert (codec.frame_rate, codec.bitrate()) == (75, 12)
    assert [codec.codebooks_for(each) for each in hparams["bandwidths"]] == [
        2,
        4,
        8,
        16,
    ]
    codes = codec.encode(torch.zeros(1, 3200), bandwidth=3)
    assert codec.decode(codes).shape == (1, 3200) and codes.shape == (1, 10, 4)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"quantizer": "rvqq"}, "unknown quantizer 'rvqq'.*did you mean 'rvq'"),
        ({"quantizer_conf": "{decai: 1}"}, "no option 'decai'"),
        ({"bandwidths": "[wide]"}, r"bandwidths must be a list .* not \['wide'\]"),
        ({"bandwidths": "3"}, "bandwidths must be a list"),
        ({"bandwidths": "[-1]"}, r"bandwidths must be .* above 0, not \[-1\]"),
        ({"ratios": "[4, 1]"}, "ratios must be strides of 2 or more"),
        ({"beam": 0}, "beam must be a whole number of at least 1"),
        ({"beam": 2, "quantizer": "vq", "quantizer_conf": "{}"}, "VQ has no chain"),
        ({"segment_seconds": 0.001}, "shorter than a frame of 80 samples"),
        ({"manifest": "missing.csv"}, "missing.csv: no such manifest"),
    ],
)
def test_settings_that_cannot_work_leave_no_files(
    recipe, corpus, tmp_path, setting, reason
):
    output = tmp_path / "run"
    with pytest.raises((ConfigError, CorpusError), match=reason):
        recipe.main(arguments(corpus, output, **setting))
    assert not list(output.glob("*.csv"))


def test_an_empty_file_is_named_before_training(recipe, corpus, tmp_path):
    (tmp_path / "empty.wav").touch()
    lines = ["wav", *(str(path) for path in sorted(corpus.glob("*.wav")))]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join([*lines, str(tmp_path / "empty.wav")]) + "\n")
    with pytest.raises(CorpusError, match="empty.wav: empty file"):
        recipe.main(arguments(corpus, tmp_path / "run", manifest=manifest))


def test_a_checkpoint_of_another_quantizer_is_refused(recipe, corpus, uninterrupted):
    # Nothing of the run that lies there may change.
    before = {p: p.stat().st_mtime_ns for p in (uninterrupted / "save").rglob("*")}
    settings = {"quantizer": "vq", "quantizer_conf": "{}"}
    with pytest.raises(
        CheckpointError, match="written with another quantizer than 'vq'"
    ):
        recipe.main(arguments(corpus, uninterrupted, **settings))
    after = {p: p.stat().st_mtime_ns for p in (uninterrupted / "save").rglob("*")}
    assert before == after


@pytest.mark.slow
def test_two_ranks_train_together(two_ranks, corpus, tmp_path):
    # Bandwidths are drawn, so that steps leave projections of levels unused.
    settings = {
        "adversarial_weight": 1.0,
        "adversarial_start": 1,
        "quantizer_conf": "{code_dim: 3}",
    }
    done = two_ranks(RECIPE, arguments(corpus, tmp_path, **settings))
    # Each rank takes half of the five batches.
    assert read_results(tmp_path)["steps"] == 2 * 3
    assert done.stdout.count("entropy (kbit/s)") == 1


def test_a_finished_run_gains_a_word_error_and_audio_for_versa(
    recipe, corpus, uninterrupted, tmp_path, capsys, monkeypatch
):
    kaldiio = pytest.importorskip("kaldiio")
    yaml = pytest.importorskip("yaml")
    recognizer = save_run(tmp_path / "ctc", "CTC/fsdd", sample_rate=16000)
    assert recognizer["sample_rate"] != 8000
    copy = shutil.copytree(uninterrupted, tmp_path / "run")
    monkeypatch.setitem(sys.modules, "pesq", None)
    names = "[stoi, pesq, stft_distance]"
    options = ADVERSARIAL | {"metrics": names, "versa": "true"}
    recipe.main(arguments(corpus, copy, asr=tmp_path / "ctc", **options))
    results, before = read_results(copy), read_results(uninterrupted)
    for row, old in zip(results["bandwidths"], before["bandwidths"], strict=True):
        assert row["trained"]["stoi"] == old["trained"]["stoi"]
        assert row["trained"]["dwer"] >= 0
        assert set(row["intervals"]) == {"stoi", "stft_distance", "dwer"}
    assert results["missing_metrics"] == {"pesq": "pip install 'sb_espnet_vq[metrics]'"}
    assert "a library is missing: pesq (pip install" in capsys.readouterr().out
    # As VERSA reads them.
    original = kaldiio.load_scp(str(copy / "versa" / "original.scp"))
    assert len(original) == results["evaluated_utterances"]
    for rate in ("0.4", "1.6"):
        decoded = kaldiio.load_scp(str(copy / "versa" / f"{rate}kbps.scp"))
        assert list(decoded) == list(original)
        for key, (sample_rate, samples) in decoded.items():
            assert sample_rate == 8000
            assert samples.shape == original[key][1].shape
    config = yaml.safe_load((copy / "versa" / "metrics.yaml").read_text())
    assert config == [{"name": "stoi"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "[si_sdr, pesk]"}, "metrics.*one of si_sdr, mel_distance"),
        ({"metrics": "[]"}, "metrics"),
        ({"asr": "nowhere"}, "nowhere: no run of a recipe"),
    ],
)
def test_wrong_metrics_are_refused_before_training(
    recipe, corpus, tmp_path, options, message
):
    output = tmp_path / "run"
    with pytest.raises((ConfigError, CheckpointError), match=message):
        recipe.main(arguments(corpus, output, **options))
    assert not (output / "hyperparams.yaml").exists()
