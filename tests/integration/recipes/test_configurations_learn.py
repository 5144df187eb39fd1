"""Every shipped configuration trains: weights change and the loss decreases.

With its own optimizer, clipping, schedule and masks, from the first step on. Sizes are
reduced, and what only has to do with the corpus. At the start of a long warm-up a step
is tiny, and so is what it gains: losses are compared on the same batches, with the same
random draws.
"""

import copy
from pathlib import Path

import pytest
import torch

speechbrain = pytest.importorskip("speechbrain")
pytest.importorskip("soundfile")

ROOT = Path(__file__).parents[3]
STEPS = 8
SECONDS = 4.0

BESTRQ = {"d_model": 16, "nhead": 2, "num_encoder_layers": 1, "d_ffn": 16}
BESTRQ |= {"cb_vocab": 16, "probe_layer": 1}
WAV2VEC2 = {"embedding_dim": 16, "nhead": 2, "num_encoder_layers": 1, "d_ffn": 16}
WAV2VEC2 |= {"num_vars": 8, "final_dim": 8, "probe_layer": 1}
CODEC = {"dim": 8, "channels": 2, "codebook_size": 16, "residual_units": 1}
CODEC |= {"discriminator": {"channels": 2}, "segment_seconds": 0.5}
PIQ = {"dim": 8, "codebook_size": 16, "n_classes": 2}
CTC = {"hidden_size": 8, "dim": 8, "n_mels": 10, "n_fft": 400}
ONE_SPLIT = {"train_splits": None, "num_workers": 0, "precision": "fp32"}
ONE_SPLIT |= {"avoid_if_shorter_than": 0.1}
FULL = ONE_SPLIT | {"train_num_buckets": 2, "grad_accumulation_factor": 1}
NO_FOLDS = {"train_folds": None, "test_folds": None, "num_workers": 0}

# File, Brain, section of the YAML, what is reduced.
CASES = [
    ("BEST-RQ/fsdd", "train:BestRQBrain", None, BESTRQ),
    ("BEST-RQ/fsdd_codebooks", "train:BestRQBrain", None, BESTRQ),
    ("BEST-RQ/librispeech", "train:BestRQBrain", None, BESTRQ | FULL),
    ("wav2vec2/fsdd", "train:Wav2Vec2Brain", None, WAV2VEC2),
    ("wav2vec2/fsdd_waveform", "train:Wav2Vec2Brain", None, WAV2VEC2),
    (
        "wav2vec2/librispeech",
        "train:Wav2Vec2Brain",
        None,
        WAV2VEC2
        | FULL
        | {"extractor_channels": [16] * 7, "latent_dim": 16, "embedding_dim": 16},
    ),
    ("codec/fsdd", "train:CodecBrain", None, CODEC),
    ("codec/libritts", "train:CodecBrain", None, CODEC | ONE_SPLIT),
    ("CTC/fsdd", "train:CTCBrain", None, CTC),
    (
        "CTC/librispeech",
        "train:CTCBrain",
        None,
        CTC | ONE_SPLIT | {"train_num_buckets": 2},
    ),
    ("PIQ/fsdd", "train_classifier:ClassifierBrain", "classifier", PIQ),
    ("PIQ/fsdd", "train:PIQBrain", "piq", PIQ),
    ("PIQ/esc10", "train_classifier:ClassifierBrain", "classifier", PIQ | NO_FOLDS),
    ("PIQ/esc10", "train:PIQBrain", "piq", PIQ | NO_FOLDS),
    ("PIQ/esc50", "train_classifier:ClassifierBrain", "classifier", PIQ | NO_FOLDS),
    ("PIQ/esc50", "train:PIQBrain", "piq", PIQ | NO_FOLDS),
]


def test_no_configuration_is_forgotten():
    files = {str(p.relative_to(ROOT / "hparams"))[:-5] for p in _files()}
    assert files == {case[0] for case in CASES}


def _files():
    return (ROOT / "hparams").glob("*/*.yaml")


def build(load_recipe, corpus, output, case, **more):
    """The Brain of a configuration, and its datasets."""
    from sb_espnet_vq.training.data import prepare, read_datasets
    from sb_espnet_vq.training.start import load_hparams

    file, brain, section, small = case
    module, name = brain.split(":")
    data = {"manifest": str(corpus / "manifest.csv"), "data_folder": str(corpus)}
    data |= {"output_folder": str(output), "seconds_per_batch": SECONDS}
    # Random initialization is not tested here.
    with load_recipe(ROOT / "recipes" / file.split("/")[0], module) as found:
        hparams = load_hparams(
            str(ROOT / "hparams" / f"{file}.yaml"), data | small | more
        )
        prepare(hparams)
        if section is None:
            # Of CTC, the output layer depends on the transcripts.
            datasets = getattr(found, "read_transcribed", read_datasets)(hparams)
        else:
            with load_recipe(ROOT / "recipes" / "PIQ", "data") as clips:
                datasets = clips.read_clips(hparams)
            hparams |= hparams[f"{section}_training"]
        options = {"device": "cpu", "noprogressbar": True}
        options |= {"optimizer_step_limit": STEPS}
        built = getattr(found, name)(
            modules=hparams["modules"],
            opt_class=hparams["optimizer"],
            hparams=hparams,
            run_opts=options,
        )
    return built, datasets


def loss_of(brain, batches):
    """The loss on some batches, without side effects."""
    from sb_espnet_vq.training.checkpoints import TrainingRecord

    state, sums = copy.deepcopy(brain.modules.state_dict()), brain.sums
    draws = torch.get_rng_state()
    brain.sums = TrainingRecord()
    brain.modules.train()
    with torch.no_grad():
        for batch in batches:
            torch.manual_seed(0)
            predictions = brain.compute_forward(batch, speechbrain.Stage.VALID)
            brain.compute_objectives(predictions, batch, speechbrain.Stage.VALID)
    loss = brain.summarise(brain.sums.running)["loss"]
    brain.modules.load_state_dict(state)
    brain.sums = sums
    torch.set_rng_state(draws)
    return loss


def train(brain, datasets):
    """Train; record weights, buffers and loss after the first step."""
    noted = {}
    end = brain.on_fit_batch_end

    def noting(*args):
        end(*args)
        if brain.optimizer_step == 1 and not noted:
            noted["loss"] = loss_of(brain, brain.plain_train_batches)
            noted["weights"] = weights(brain)
            noted["buffers"] = copy.deepcopy(dict(brain.modules.named_buffers()))

    brain.on_fit_batch_end = noting
    # Checkpoints are not tested here.
    brain.checkpointer = None
    brain.on_stage_end = lambda *args: None
    brain.train(datasets)
    return noted


def weights(brain):
    named = brain.modules.named_parameters()
    return {name: p.detach().clone() for name, p in named if p.requires_grad}


def moved_by_more_than_decay(brain, before):
    """Return the names of all weights that changed."""
    (group,) = brain.optimizer.param_groups
    schedule = brain.hparams.schedule
    rates = sum(schedule.rate(n, brain.total_steps) for n in range(2, STEPS + 1))
    moved = []
    for name, now in weights(brain).items():
        distance = float((now - before[name]).abs().max())
        decay = rates * group["weight_decay"] * float(before[name].abs().max())
        # Adam moves a weight by about the learning rate.
        if distance > 10 * decay and distance > 0.1 * rates:
            moved.append(name)
    return moved


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[2]}")
def test_it_learns(load_recipe, corpus, tmp_path, case):
    brain, datasets = build(load_recipe, corpus, tmp_path, case)
    before = train(brain, datasets)
    moved = moved_by_more_than_decay(brain, before["weights"])
    # The discriminator of a codec starts later.
    waits = [name for name in before["weights"] if name.startswith("discriminator")]
    assert len(moved) > 0.8 * (len(before["weights"]) - len(waits))
    # Only the effect of the weights: codebooks of moving averages are restored.
    for name, buffer in brain.modules.named_buffers():
        buffer.copy_(before["buffers"][name])
    assert loss_of(brain, brain.plain_train_batches) < before["loss"]


@pytest.mark.parametrize("norm", [0, -1])
@pytest.mark.parametrize(
    "case",
    [CASES[0], CASES[2], CASES[5], CASES[7], CASES[8]],
    ids=lambda case: f"{case[0]}-{case[2]}",
)
def test_a_norm_of_0_clips_nothing(load_recipe, corpus, tmp_path, case, norm):
    """In every Brain; a codec's discriminator has a step of its own."""
    more = (
        {"adversarial_weight": 1.0, "adversarial_start": 0} if case[0][0] == "c" else {}
    )
    brain, datasets = build(
        load_recipe, corpus, tmp_path, case, max_grad_norm=norm, **more
    )
    before = train(brain, datasets)
    assert len(moved_by_more_than_decay(brain, before["weights"])) > 0.8 * len(
        before["weights"]
    )
    for name, buffer in brain.modules.named_buffers():
        buffer.copy_(before["buffers"][name])
    if not more:
        # Nor does a gradient change its sign.
        assert loss_of(brain, brain.plain_train_batches) < before["loss"]
