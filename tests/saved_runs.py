"""Folders as runs of the recipes leave them, with tiny untrained models."""

import importlib.util
import json
from pathlib import Path

import torch
from hyperpyyaml import resolve_references

from sb_espnet_vq.training.checkpoints import WholeCheckpointer
from sb_espnet_vq.training.start import load_hparams
from sb_espnet_vq.utils.speech_batch import SpeechBatch

ROOT = Path(__file__).parents[1]
SPEECH = {"n_mels": 10, "n_fft": 400, "nhead": 2, "num_encoder_layers": 1, "d_ffn": 16}
TINY = {
    "BEST-RQ/fsdd": SPEECH
    | {"p_input": 40, "cb_vocab": 64, "d_model": 16, "kernel_size": 3},
    "wav2vec2/fsdd": SPEECH
    | {"latent_dim": 20, "embedding_dim": 16, "num_vars": 8, "final_dim": 8},
    "wav2vec2/fsdd_waveform": SPEECH
    | {"embedding_dim": 16, "num_vars": 8, "final_dim": 8}
    | {"extractor_channels": [8, 8], "extractor_kernels": [11, 3]}
    | {"extractor_strides": [5, 2]},
    "codec/fsdd": {"dim": 8, "channels": 4, "codebook_size": 16, "n_codebooks": 4},
    "CTC/fsdd": {"n_mels": 10, "n_fft": 400, "hidden_size": 8, "num_layers": 1},
}
METRIC = {"BEST-RQ": "loss", "wav2vec2": "nats_above_chance", "codec": "mel"}
METRIC |= {"CTC": "word_error"}


def save_run(folder, name, **more):
    """Write the YAML and a checkpoint of a recipe; return its hparams."""
    overrides = TINY[name] | more | {"output_folder": str(folder)}
    with open(ROOT / "hparams" / f"{name}.yaml", encoding="utf-8") as file:
        text = resolve_references(file, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hyperparams.yaml").write_text(text.read(), encoding="utf-8")
    torch.manual_seed(0)
    hparams = load_hparams(folder / "hyperparams.yaml", {"checkpointer": None})
    modules = {
        "BEST-RQ": {"model": "model", "quantizer": "target_quantizer"},
        "wav2vec2": {
            key: key
            for key in "front_end latent_encoder target_quantiser".split()
            if key != "front_end" or "latent_extractor" not in hparams
        },
        "codec": {"codec": "codec"},
        "CTC": {"source": "source"},
    }[name.partition("/")[0]]
    saved = {key: hparams[each] for key, each in modules.items()}
    if "source" in hparams:
        add_recognizer(folder, hparams, saved)
    if "latent_extractor" in hparams:
        saved["latent_extractor"] = hparams["latent_extractor"]
    if "normalize" in hparams:
        normalize = saved["normalize"] = hparams["normalize"]
        frames = hparams["compute_features"](0.3 * torch.randn(1, 8000))[0]
        normalize.count, normalize.glob_mean = len(frames), frames.mean(0)
        normalize.glob_std = frames.std(0)
    for module in saved.values():
        module.eval()
    metric = METRIC[name.partition("/")[0]]
    WholeCheckpointer(folder / "save", saved).save_checkpoint({metric: 0.5})
    return hparams


def save_piq_run(folder, **more):
    """Write the YAML, the classes and a checkpoint of PIQ; return its networks."""
    sizes = {"n_classes": 2, "n_fft": 128, "win_length": 112, "hop_length": 64}
    sizes |= {"frames": 33, "dim": 6, "codebook_size": 12, "shared_keys": 2}
    with open(ROOT / "hparams/PIQ/fsdd.yaml", encoding="utf-8") as file:
        text = resolve_references(file, sizes | more | {"output_folder": str(folder)})
    folder.mkdir(parents=True)
    (folder / "hyperparams.yaml").write_text(text.read(), encoding="utf-8")
    (folder / "classes.json").write_text('["low", "it\'s high"]')
    file = ROOT / "recipes/PIQ/networks.py"
    spec = importlib.util.spec_from_file_location("networks_of_piq", file)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    torch.manual_seed(0)
    dictionary = {"quantizer": more.get("quantizer", "class_partitioned")}
    networks = {
        "classifier": recipe.SoundClassifier(6, 2),
        "interpreter": recipe.Interpreter(6, 12, 2, 2, **dictionary),
    }
    for module in networks.values():
        module.eval()
    # Untrained ones give one class, one code and one value of the mask.
    psi, head = networks["interpreter"].psi, networks["classifier"].head
    for weight in psi.codebook.parameters():
        weight.data.normal_(std=0.1)
    psi.decoder[-1].weight.data *= 10000
    spectrogram = recipe.Spectrogram(128, 112, 64, 33)
    sounds = 0.3 * torch.randn(8, spectrogram.samples)
    logits = networks["classifier"](spectrogram(sounds))[1]
    head.bias.data -= logits.detach().mean(0)
    save = folder / "piq/save"
    save.mkdir(parents=True)
    WholeCheckpointer(save, networks).save_checkpoint({"loss": 0.5})
    return networks | {"spectrogram": spectrogram}


def add_recognizer(folder, hparams, saved):
    """Add what a run of CTC has: a recognizer of two words, feature statistics."""
    symbols = ["one", "two"]
    vocabulary = {"units": "words", "symbols": symbols}
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    source = saved["source"]
    source.gather([SpeechBatch(["a"], torch.randn(1, 8000), torch.tensor([8000]))])
    saved["recognizer"] = hparams["recognizer"](source.width, len(symbols) + 1)
