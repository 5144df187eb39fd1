"""Folders as runs of the recipes leave them, with tiny untrained models."""

from pathlib import Path

import torch
from hyperpyyaml import resolve_references

from sb_espnet_vq.training.checkpoints import WholeCheckpointer
from sb_espnet_vq.training.start import load_hparams

ROOT = Path(__file__).parents[2]
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
}
METRIC = {"BEST-RQ": "loss", "wav2vec2": "nats_above_chance", "codec": "mel"}


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
    }[name.partition("/")[0]]
    saved = {key: hparams[each] for key, each in modules.items()}
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
