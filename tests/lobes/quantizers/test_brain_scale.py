"""A loss attached by an adapter keeps its weight relative to the trainer's loss."""

import copy
import pickle

import pytest
import torch
from torch import nn
from uses import LABELS, batch, load

core = pytest.importorskip("speechbrain.core")

# Every quantizer that has a loss; vq and rvq in eval, so that averages stay.
CELLS = [
    ("contrastive", "entropy_vq", ""),
    ("contrastive", "bsq", "{codebook_size: 32, inv_temperature: 2.0}"),
    ("contrastive", "class_partitioned", ""),
    ("contrastive", "vq", ""),
    ("contrastive", "rvq", "{code_dim: 4}"),
    ("dictionary", "entropy_vq", "{commitment_weight: 0.5}"),
    ("dictionary", "bsq", "{inv_temperature: 2.0}"),
    ("dictionary", "class_partitioned", "{codebook_weight: 2.0}"),
    ("dictionary", "vq", "{commitment_weight: 1.0}"),
]
every_cell = pytest.mark.parametrize(("use", "quantizer_name", "conf"), CELLS)
SCALE = 2.0**16


class Plain(core.Brain):
    """A Brain whose own loss has no gradient, so that only the adapter's remains."""

    def compute_forward(self, batch, stage):
        x, labels = batch
        frames = self.modules.front(x)
        if hasattr(self.modules.part, "update_temp"):
            return self.modules.part(frames)["x"]
        z = frames.unflatten(1, (5, -1)).movedim(-1, 1)
        return self.modules.part.straight_through(z, labels)[0]

    def compute_objectives(self, predictions, batch, stage):
        return predictions.sum() * 0


class LikeWav2Vec2(Plain):
    """Objectives in a dict and a fit_batch of its own, as in SpeechBrain's recipe."""

    def compute_objectives(self, predictions, batch, stage):
        return {"backprop_loss": predictions.sum() * 0}

    def fit_batch(self, batch):
        with self.training_ctx:
            outputs = self.compute_forward(batch, core.Stage.TRAIN)
            loss = self.compute_objectives(outputs, batch, core.Stage.TRAIN)
        loss = loss["backprop_loss"] / self.grad_accumulation_factor
        self.scaler.scale(loss).backward()
        return loss.detach()


def make(use, quantizer_name, conf, kind=Plain, **run_opts):
    part = load(use, quantizer_name, conf)
    torch.manual_seed(5)
    modules = {"front": nn.Linear(8, 8), "part": part}
    brain = kind(modules=modules, run_opts={"device": "cpu"} | run_opts)
    brain.modules.train()
    if quantizer_name in ("vq", "rvq"):
        part.eval()
    return brain


def gradients(brain, batches, scale=None):
    if scale is not None:
        brain.scaler = torch.GradScaler("cpu", init_scale=scale)
    for each in batches:
        brain.fit_batch(each)
    named = {
        name: parameter.grad / (scale or 1)
        for name, parameter in brain.modules.named_parameters()
        if parameter.grad is not None
    }
    assert any(bool((grad != 0).any()) for grad in named.values())
    return named


def same(given, expected):
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-7)


@every_cell
def test_a_brain_adds_the_loss_once(use, quantizer_name, conf):
    brain = make(use, quantizer_name, conf)
    got = gradients(brain, [(batch(), LABELS)])
    part, front = brain.modules.part, brain.modules.front
    brain.modules.zero_grad()
    labels = (
        LABELS
        if quantizer_name == "class_partitioned" and use == "dictionary"
        else None
    )
    x = front(batch())
    if use == "dictionary":
        # A dictionary's frames are the columns of feature maps.
        x = x.unflatten(1, (5, -1))
    part.quantizer(x, labels=labels).loss.backward()
    expected = {
        name: parameter.grad
        for name, parameter in brain.modules.named_parameters()
        if parameter.grad is not None
    }
    for name, grad in expected.items():
        torch.testing.assert_close(got[name], grad)


@pytest.mark.parametrize("kind", [Plain, LikeWav2Vec2])
@every_cell
def test_micro_batches_and_a_scaler_leave_its_weight(use, quantizer_name, conf, kind):
    plain = gradients(make(use, quantizer_name, conf, kind), [(batch(), LABELS)])
    same(
        gradients(make(use, quantizer_name, conf, kind), [(batch(), LABELS)], SCALE),
        plain,
    )
    four = {"grad_accumulation_factor": 4}
    brain = make(use, quantizer_name, conf, kind, **four)
    same(gradients(brain, [(batch(), LABELS)] * 4), plain)
    brain = make(use, quantizer_name, conf, kind, **four)
    same(gradients(brain, [(batch(), LABELS)] * 4, SCALE), plain)


@pytest.mark.parametrize("use", ["contrastive", "dictionary"])
def test_quarters_of_a_batch_give_its_gradient(use):
    # Without the entropy term, all terms are means over frames.
    conf = "{entropy_weight: 0, commitment_weight: 0.5}"
    whole = gradients(make(use, "entropy_vq", conf), [(batch(), LABELS)])
    brain = make(use, "entropy_vq", conf, grad_accumulation_factor=4)
    parts = zip(batch().split(1), LABELS.split(1), strict=True)
    same(gradients(brain, parts, SCALE), whole)


def pickled(module):
    return pickle.loads(pickle.dumps(module))  # noqa: S301


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_belongs_to_no_brain(copied):
    brain = make("contrastive", "entropy_vq", "", grad_accumulation_factor=4)
    loss = torch.tensor(1.0)
    assert brain.modules.part.scale_loss(loss) == 0.25
    assert copied(brain.modules.part).scale_loss(loss) == 1
    part = brain.modules.part
    del brain
    assert part.scale_loss(loss) == 1


def test_a_loop_of_ones_own_says_its_factor():
    part = load("contrastive", "entropy_vq").train()
    part.scale_loss = lambda loss: loss * 8
    (part(batch())["x"].sum() * 0).backward()
    eightfold = part.quantizer.codebook.weight.grad.clone()
    part.zero_grad()
    part.quantizer(batch()).loss.backward()
    torch.testing.assert_close(eightfold, part.quantizer.codebook.weight.grad * 8)


def test_compiled_it_follows_a_scaler_that_grows():
    brain = make("contrastive", "entropy_vq", "")
    brain.modules["part"] = torch.compile(brain.modules.part, backend="eager")
    brain.compute_forward = lambda batch, stage: brain.modules.part(
        brain.modules.front(batch[0])
    )["x"]
    plain = gradients(make("contrastive", "entropy_vq", ""), [(batch(), LABELS)])
    for scale in (1.0, SCALE, 4 * SCALE):
        brain.modules.zero_grad()
        got = gradients(brain, [(batch(), LABELS)], scale)
        same({n.replace("_orig_mod.", ""): g for n, g in got.items()}, plain)
