"""Every pipeline for quantizers: the shipped recipes, with tiny models."""

import importlib
import math
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).parents[3]
RATE = 8000


class Trainee(NamedTuple):
    """A pipeline with a quantizer, ready to train.

    module : what a checkpoint holds; step : takes a training step on one batch and
    returns the loss of the task, without the quantizer's own terms; answer : what the
    pipeline says in eval, as tensors.
    """

    module: nn.Module
    step: Callable[[], float]
    answer: Callable[[], list[Tensor]]


def audio(seconds: float = 1.2, rows: int = 3) -> Tensor:
    """Return (rows, samples) noisy tones of different pitch and rhythm."""
    generator = torch.Generator().manual_seed(5)
    time = torch.arange(int(seconds * RATE)) / RATE
    pitch = 200 + 350 * torch.arange(rows)[:, None]
    loudness = torch.sin(2 * math.pi * (2 + torch.arange(rows)[:, None]) * time).abs()
    noise = 0.02 * torch.randn(rows, len(time), generator=generator)
    return 0.4 * loudness * torch.sin(2 * math.pi * pitch * time) + noise


# ---- recipes of this package


@contextmanager
def importable(folder: Path):
    """Make modules of a recipe importable, as its launch command does."""
    sys.path.insert(0, str(folder))
    before = set(sys.modules)
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        # Every recipe has modules of the same names.
        for name in set(sys.modules) - before:
            if is_in(folder, sys.modules[name]):
                del sys.modules[name]


def is_in(folder: Path, module: ModuleType) -> bool:
    """Return whether a module is a file of this folder."""
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).parent == folder


def recipe_brain(
    recipe: str, brain: str, tiny: dict, seed: int, section: str | None = None
) -> Any:
    """Build the Brain of a recipe, as its script does, with a tiny model.

    Where the YAML serves several trainings, ``section`` is the one that is meant.
    """
    from sb_espnet_vq.training.start import load_hparams

    module, _, name = brain.partition(":")
    torch.manual_seed(seed)
    with importable(ROOT / "recipes" / recipe):
        found = getattr(importlib.import_module(module), name)
        hparams = load_hparams(str(ROOT / "hparams" / recipe / "fsdd.yaml"), tiny)
    hparams |= hparams.get(section, {})
    return found(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts={"device": "cpu", "noprogressbar": True},
    )


def recipe_trainee(brain: Any, figure: str) -> Trainee:
    """Train a recipe's Brain on one batch; the loss is the metric of that name."""
    import speechbrain as sb

    from sb_espnet_vq.training.checkpoints import TrainingRecord
    from sb_espnet_vq.utils.speech_batch import SpeechBatch

    signals = audio()
    counts = torch.tensor([signals.shape[1], signals.shape[1], 2900])
    real = torch.arange(signals.shape[1]) < counts[:, None]
    batch = SpeechBatch(["a", "b", "c"], signals * real, counts)
    brain.total_steps, brain.steps_per_epoch = 1000, 1000
    brain.plain_train_batches = [batch]
    brain.hparams.epoch_counter.current = 1
    brain.on_fit_start()
    brain.on_stage_start(sb.Stage.TRAIN, 1)

    def step() -> float:
        brain.modules.train()
        brain.sums = TrainingRecord()
        brain.fit_batch(batch)
        return brain.summarise(brain.sums.running)[figure]

    def answer() -> list[Tensor]:
        brain.modules.eval()
        brain.on_stage_start(sb.Stage.TEST)
        with torch.no_grad():
            return [brain.evaluate_batch(batch, sb.Stage.TEST)]

    return Trainee(brain.modules, step, answer)


def best_rq(quantizer_name: str, seed: int) -> Trainee:
    """BEST-RQ: the codes are the labels."""
    tiny = {
        "quantizer": quantizer_name,
        "cb_vocab": 16,
        "n_mels": 10,
        "p_input": 40,
        "n_fft": 400,
        "d_model": 16,
        "nhead": 2,
        "num_encoder_layers": 1,
        "d_ffn": 16,
        "kernel_size": 3,
        "warmup_steps": 1,
        "lr": 0.01,
        "mask_prob": 0.2,
    }
    brain = recipe_brain("BEST-RQ", "train:BestRQBrain", tiny, seed)
    return recipe_trainee(brain, "loss")


def wav2vec2(quantizer_name: str, seed: int) -> Trainee:
    """wav2vec 2.0: the quantizer's values are the contrastive targets."""
    tiny = {
        "quantizer": quantizer_name,
        "num_vars": 8,
        "n_mels": 10,
        "latent_dim": 20,
        "final_dim": 8,
        "embedding_dim": 16,
        "nhead": 2,
        "num_encoder_layers": 1,
        "d_ffn": 16,
        "kernel_size": 3,
        "num_negatives": 5,
        "warmup_steps": 1,
        "lr": 0.01,
        "mask_prob": 0.2,
    }
    brain = recipe_brain("wav2vec2", "train:Wav2Vec2Brain", tiny, seed)
    return recipe_trainee(brain, "loss")


def piq(quantizer_name: str, seed: int) -> Trainee:
    """PIQ: the quantizer is the dictionary of explanations."""
    tiny = {
        "quantizer": quantizer_name,
        "codebook_size": 16,
        "n_classes": 4,
        "dim": 8,
        "n_fft": 64,
        "win_length": 64,
        "hop_length": 48,
        "frames": 65,
        "warmup_steps": 1,
        "piq_lr": 0.01,
    }
    brain = recipe_brain("PIQ", "train:PIQBrain", tiny, seed, "piq_training")
    return recipe_trainee(brain, "mask")


def codec(quantizer_name: str, seed: int) -> Trainee:
    """The SpeechBrain codec: the quantizer is its bottleneck."""
    tiny = {
        "quantizer": quantizer_name,
        "codebook_size": 16,
        "n_codebooks": 2,
        "bandwidths": [0.4, 0.8],
        "dim": 8,
        "channels": 4,
        "warmup_steps": 1,
        "lr": 0.01,
    }
    brain = recipe_brain("codec", "train:CodecBrain", tiny, seed)
    return recipe_trainee(brain, "mel")


# ---- FocalCodec's way of training its quantizer


def focalcodec(quantizer_name: str, seed: int) -> Trainee:
    """Compress features, quantize, decompress: the quantizer's stage of FocalCodec.

    Its recipe comes with SpeechBrain's sources alone, so that the step is ours.
    """
    from sb_espnet_vq.lobes.quantizers import BottleneckQuantizer

    torch.manual_seed(seed)
    parts = nn.ModuleDict(
        {
            "compressor": nn.Sequential(nn.Linear(20, 16), nn.GELU(), nn.Linear(16, 4)),
            "quantizer": BottleneckQuantizer(4, quantizer=quantizer_name),
            "decompressor": nn.Sequential(
                nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 20)
            ),
        }
    )
    features = audio().unfold(1, 20, 20)
    features = features / features.std()

    def run() -> tuple[Tensor, float]:
        quantized, _, loss = parts["quantizer"](parts["compressor"](features))
        task = F.mse_loss(parts["decompressor"](quantized), features)
        return task + loss, task.item()

    def answer() -> list[Tensor]:
        parts.eval()
        with torch.no_grad():
            return list(parts["quantizer"](parts["compressor"](features)))

    return Trainee(parts, stepper(parts, run), answer)


def stepper(
    module: nn.Module, run: Callable[[], tuple[Tensor, float]], lr: float = 0.01
) -> Callable[[], float]:
    """Return a training step; ``run`` gives the whole loss and that of the task."""
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)

    def step() -> float:
        module.train()
        loss, task = run()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return task

    return step


# ---- ESPnet's codecs


def espnet(name: str) -> Callable[[str, int], Trainee]:
    """Build a codec of ESPnet, trained on its generator's loss."""

    def build(quantizer_name: str, seed: int) -> Trainee:
        from tiny_codecs import codec_conf

        from sb_espnet_vq.gan_codec.codecs import CODECS

        torch.manual_seed(seed)
        conf = codec_conf(name, quantizer=quantizer_name)
        # With ESPnet's default these networks stay silent for hundreds of steps, and
        # with its mel loss that is worse than the noise they start with.
        conf["generator_params"] |= {"encdec_true_skip": True}
        conf |= {"lambda_mel": 0.0, "lambda_reconstruct": 30.0}
        model = CODECS[name](**conf)
        signals = audio(0.2)

        def run() -> tuple[Tensor, float]:
            out = model(signals, forward_generator=True)
            # The codec keeps what it computed for the discriminator's turn.
            model._cache = None
            return out["loss"], out["stats"]["reconstruct_loss"]

        def answer() -> list[Tensor]:
            model.eval()
            with torch.no_grad():
                codes = model.encode(signals[:, None])
                return [codes, model.decode(codes)]

        return Trainee(model, stepper(model, run, lr=0.005), answer)

    return build


PIPELINES = {
    "BEST-RQ": best_rq,
    "wav2vec2": wav2vec2,
    "codec": codec,
    "PIQ": piq,
    "focalcodec": focalcodec,
    "vq_soundstream": espnet("vq_soundstream"),
    "vq_encodec": espnet("vq_encodec"),
    "vq_dac": espnet("vq_dac"),
}
