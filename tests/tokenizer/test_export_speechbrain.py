"""Exports to SpeechBrain's inference and fine-tuning, loaded without this package."""

import re

import pytest
import torch

pytest.importorskip("speechbrain")
pytest.importorskip("safetensors")
soundfile = pytest.importorskip("soundfile")

from hyperpyyaml import load_hyperpyyaml  # noqa: E402
from saved_runs import save_piq_run, save_run  # noqa: E402
from without_package import run_without_package, script_of_page  # noqa: E402

from sb_espnet_vq.cli.main import main  # noqa: E402
from sb_espnet_vq.tokenizer import AudioTokenizer  # noqa: E402
from sb_espnet_vq.tokenizer.speechbrain_yaml import write_yaml  # noqa: E402

# 26 feature frames of 10 ms: the last stack of four is not whole.
SIGNALS = 0.3 * torch.randn(2, 4003, generator=torch.Generator().manual_seed(1))
# 24 frames: SpeechBrain's recipe has no way to leave out what fills no step.
WHOLE = 3700
# More than SpeechBrain's default of 2500 positions, at 10 samples a frame.
LONG = 0.3 * torch.randn(1, 25200, generator=torch.Generator().manual_seed(3))
SOUNDS = 0.3 * torch.randn(3, 2048, generator=torch.Generator().manual_seed(2))
CONVOLUTIONS = {
    "class": "speechbrain.lobes.models.convolution.ConvolutionFrontEnd",
    "options": {
        "input_shape": [8, 10, 80],
        "num_blocks": 2,
        "num_layers_per_block": 1,
        "out_channels": [4, 2],
        "kernel_sizes": [3, 3],
        "strides": [2, 2],
        "residuals": [False, False],
    },
}
ENCODERS = ("stacks", "convolutions", "log_mels", "waveform")
# The rest of train_sb_BEST-RQ.yaml and train_sb_wav2vec.yaml, as far as the encoder.
PRETRAINERS = {
    "BEST-RQ": """
pt_model_path: {folder}
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
   collect_in: {folder}/save
   loadables:
      pt_model: !ref <pt_model>
      normalize: !ref <normalize>
   paths:
      pt_model: !ref <pt_model_path>/model.ckpt
      normalize: !ref <pt_model_path>/normalize.ckpt
""",
    "wav2vec2": """
wav2vec2_hub: {folder}
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
   collect_in: {folder}/save
   loadables:
      extractor: !ref <extractor>
      encoder_wrapper: !ref <encoder_wrapper>
   paths:
      extractor: !ref <wav2vec2_hub>/latent_extractor.ckpt
      encoder_wrapper: !ref <wav2vec2_hub>/latent_encoder.ckpt
""",
}
# A recipe whose networks are others, until its command line includes those of a run.
OTHER = r"\1: !new:torch.nn.Identity\n"
# One process for all exports, since importing SpeechBrain takes seconds.
SCRIPT = """
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.inference.encoders import WaveformEncoder
from speechbrain.inference.interpretability import PIQAudioInterpreter

signals, whole, long, sounds, included = torch.load("inputs.pt")
results, ones = {}, torch.ones(len(signals))
for name in included:
    model = WaveformEncoder.from_hparams(source=f"{name}/inference")
    results[name, "inference"] = model.encode_batch(signals, ones)
    for form in "recipe", "others":
        options = [f"{each}: !include:tuning/{each}.yaml" for each in included[name]]
        with open(f"{name}/{form}.yaml") as file:
            recipe = load_hyperpyyaml(file, "\\n".join(options * (form == "others")))
        recipe["pretrainer"].collect_files()
        recipe["pretrainer"].load_collected()
        for module in recipe["pretrainer"].loadables.values():
            module.eval()
        with torch.no_grad():
            if "pt_model" in recipe:
                frames = recipe["normalize"](recipe["compute_features"](whole), ones)
                encoded = recipe["enc"](recipe["CNN"](frames), ones)
            else:
                encoded = recipe["encoder_wrapper"](recipe["extractor"](whole), ones)
                encoded = encoded["embeddings"]
        results[name, form] = encoded
results["long"] = model.encode_batch(long, torch.ones(1))["embeddings"]
interpreter = PIQAudioInterpreter.from_hparams(source="piq/inference")
results["piq"] = interpreter.interpret_batch(sounds)
torch.save(results, "results.pt")
"""
# The page's scripts, with other folders.
PAGE = {
    "WaveformEncoder": ("my_encoder", "stacks/inference"),
    "PIQAudioInterpreter": ("my_interpreter", "piq/inference"),
    "networks.yaml": ("my_pretrained", "stacks/tuning"),
}


def best_rq(folder):
    """Save the run of the small configuration."""
    save_run(folder, "BEST-RQ/fsdd")
    return AudioTokenizer.from_run(folder)


def convolutions(folder):
    """Give it the front end of SpeechBrain's recipe."""
    tokenizer = best_rq(folder)
    options = dict(tokenizer.config["options"], front_end=CONVOLUTIONS)
    options["compute_features"]["options"]["n_mels"] = 80
    options["statistics"] = 80
    options["target_quantizer"]["options"]["input_dim"] = 320
    tokenizer = AudioTokenizer(tokenizer.config | {"options": options})
    tokenizer.model.mean += torch.linspace(-40, 0, 80)
    return tokenizer


def log_mels(folder):
    """Save a run whose normalization changes the frames."""
    save_run(folder, "wav2vec2/fsdd")
    tokenizer = AudioTokenizer.from_run(folder)
    normalize = tokenizer.model.front_end.normalize
    normalize.mean += torch.linspace(-40, -10, 10)
    normalize.std += torch.linspace(1, 9, 10)
    return tokenizer


def waveform(folder):
    """Save a run that starts from the waveform."""
    save_run(folder, "wav2vec2/fsdd_waveform")
    return AudioTokenizer.from_run(folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export every model; return them, the results without this package and the log."""
    folder = tmp_path_factory.mktemp("exports")
    models, included = {}, {}
    makers = (best_rq, convolutions, log_mels, waveform)
    for name, make in zip(ENCODERS, makers, strict=True):
        place = folder / name
        models[name] = make(place / "run")
        models[name].save_pretrained(place / "saved")
        for form, dest in (("", "inference"), ("-finetune", "tuning")):
            command = ["export", str(place / "saved"), str(place / dest)]
            assert main([*command, "--to", f"speechbrain{form}"]) == 0
        recipe = "BEST-RQ" if name in ENCODERS[:2] else "wav2vec2"
        blocks = PRETRAINERS[recipe].format(folder=f"{name}/tuning")
        networks = (place / "tuning/networks.yaml").read_text()
        (place / "recipe.yaml").write_text(networks + blocks)
        names = {file.stem for file in place.glob("tuning/*.yaml")} - {"networks"}
        network = rf"^({'|'.join(names)}):.*\n(    .*\n)*"
        others = re.sub(network, OTHER, networks, flags=re.MULTILINE)
        assert others.count("torch.nn.Identity") == len(names)
        (place / "others.yaml").write_text(others + blocks)
        included[name] = sorted(names)
    models["piq"] = save_piq_run(folder / "piq/run")
    command = ["export", str(folder / "piq/run"), str(folder / "piq/inference")]
    assert main([*command, "--to", "speechbrain"]) == 0
    soundfile.write(folder / "speech.wav", SIGNALS[0].numpy(), 16000)
    soundfile.write(folder / "sound.wav", SOUNDS[0].numpy(), 8000)
    scripts = []
    for word, (there, here) in PAGE.items():
        scripts.append(script_of_page(word).replace(there, here))
    inputs = SIGNALS, SIGNALS[:, :WHOLE], LONG, SOUNDS, included
    torch.save(inputs, folder / "inputs.pt")
    printed, log = run_without_package("\n".join([SCRIPT, *scripts]), folder)
    return models, torch.load(folder / "results.pt"), printed, log


@pytest.mark.parametrize("name", ENCODERS)
def test_waveform_encoder_gives_the_features(name, exported):
    models, results, *_ = exported
    expected, _ = models[name].features(SIGNALS)
    result = results[name, "inference"]
    got = result if name in ENCODERS[:2] else result["embeddings"]
    assert expected.std() > 0.1 and got.shape == expected.shape
    assert torch.allclose(got, expected, atol=1e-5)


def test_wav2vec2_encodes_long_utterances(exported):
    models, results, *_ = exported
    expected, lengths = models["waveform"].features(LONG)
    assert lengths.item() > 2500
    assert torch.allclose(results["long"], expected, atol=1e-5)


@pytest.mark.parametrize("form", ["recipe", "others"])
@pytest.mark.parametrize("name", ENCODERS)
def test_fine_tuning_starts_from_the_features(name, form, exported):
    models, results, *_ = exported
    expected, _ = models[name].features(SIGNALS[:, :WHOLE])
    got = results[name, form]
    assert got.shape == expected.shape and torch.allclose(got, expected, atol=1e-5)


def test_yaml_holds_what_it_was_given():
    nodes = {"a": 1e-05, "b": {"c: !new:d": [True, {"ref": "a"}]}, "e": {}, "f": None}
    read = load_hyperpyyaml(write_yaml(nodes))
    assert read == {"a": 1e-05, "b": {"c: !new:d": [True, 1e-05]}, "e": {}, "f": None}


def test_the_package_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="sb_espnet_vq is refused"):
        run_without_package("import sb_espnet_vq.tokenizer", tmp_path)


def test_every_key_is_loaded(exported):
    assert "During parameter transfer" not in exported[3]


def test_the_scripts_of_the_page_run(exported):
    encoder, interpreter = exported[2].splitlines()
    assert encoder == "torch.Size([1, 6, 16])"
    assert interpreter.endswith("torch.Size([1, 2048]) 8000")


def test_piq_interpreter_interprets_as_the_run(exported):
    models, results, *_ = exported
    audio, labels = results["piq"]
    spectrogram = models["piq"]["spectrogram"]
    transform = spectrogram.transform(SOUNDS)
    heard = transform.abs().log1p()
    with torch.no_grad():
        representation, logits = models["piq"]["classifier"](heard)
        classes = logits.argmax(1)
        mask = models["piq"]["interpreter"](representation, classes).mask
    assert mask.std() > 0.1 and len(set(classes.tolist())) == 2
    assert labels == [[["low", "it's high"][number] for number in classes]]
    phase = transform / transform.abs()
    expected = spectrogram.invert((mask * heard).expm1() * phase)
    assert torch.allclose(audio, expected, atol=1e-5)


@pytest.mark.parametrize("form", ["speechbrain", "speechbrain-finetune"])
def test_codecs_are_refused(form, tmp_path, capsys):
    save_run(tmp_path / "run", "codec/fsdd")
    command = ["export", str(tmp_path / "run"), str(tmp_path / "exported")]
    assert main([*command, "--to", form]) == 2
    assert "networks SpeechBrain does not have" in capsys.readouterr().err
    assert main([*command, "--to", "zip"]) == 2
    assert "--to must be one of hub, speechbrain, " in capsys.readouterr().err
    assert not (tmp_path / "exported").exists()
    assert main([*command, "--to", "hub"]) == 0
    assert AudioTokenizer.from_pretrained(tmp_path / "exported").sample_rate == 8000


def test_another_dictionary_or_interpreter_of_piq_is_refused(tmp_path, capsys):
    save_piq_run(tmp_path / "run", quantizer="vq")
    command = ["export", str(tmp_path / "run"), str(tmp_path / "exported")]
    assert main([*command, "--to", "speechbrain"]) == 2
    assert "quantizer 'vq' with quantizer_conf {}" in capsys.readouterr().err
    (tmp_path / "run/hyperparams.yaml").write_text("interpreter: mine\n")
    assert main([*command, "--to", "speechbrain"]) == 2
    assert "the interpreter of this run is mine" in capsys.readouterr().err
    assert not (tmp_path / "exported").exists()
