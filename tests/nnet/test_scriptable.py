"""torch.jit.script and torch.jit.trace of drop-ins work where upstream's do."""

import copy
import importlib
import io
from typing import NamedTuple

import pytest
import speechbrain  # noqa: F401, since it selects the script executor
import torch
from torch import nn

pytestmark = [
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]


class Subject(NamedTuple):
    """A class at a toolkit's path, its arguments, and a batch for it."""

    path: str
    arguments: dict
    batch: object
    scripts: bool = True
    saves: bool = True
    call: str = "forward"
    extra: tuple = ()


def frames(width):
    return lambda batch, time: (torch.randn(batch, time, width),)


def maps(width):
    return lambda batch, time: (
        torch.randn(batch, width, 8, time // 2 * 2),
        torch.arange(batch) % 2,
    )


def spectrograms(batch, time):
    return (torch.randn(batch, time + 16, 20),)


def channels_first(batch, time):
    return (torch.randn(batch, 8, time),)


PIQ = "speechbrain.lobes.models.PIQ."
SMALL = {"dim": 4, "K": 20, "numclasses": 2, "shared_keys": 4}
RVQ = "espnet2.gan_codec.shared.quantizer.residual_vq.ResidualVectorQuantizer"
SUBJECTS = {
    "RandomProjection": Subject(
        "speechbrain.nnet.quantisers.RandomProjectionQuantizer",
        {"input_dim": 16, "cb_dim": 8, "cb_vocab": 64},
        frames(16),
    ),
    "Gumbel": Subject(
        "speechbrain.nnet.quantisers.GumbelVectorQuantizer",
        {
            "input_dim": 8,
            "num_vars": 5,
            "temp_tuple": (2.0, 0.5, 0.9),
            "groups": 2,
            "vq_dim": 6,
        },
        frames(8),
        scripts=False,
    ),
    "BSQ": Subject(
        "speechbrain.lobes.models.bsq.BinarySphericalQuantizer",
        {"code_dim": 5},
        frames(5),
    ),
    "VQEmbedding": Subject(
        PIQ + "VQEmbedding", {"K": 30, "D": 4, "numclasses": 2}, maps(4), saves=False
    ),
    "VQEmbedding.straight_through": Subject(
        PIQ + "VQEmbedding",
        {"K": 20, "D": 4, "numclasses": 2},
        maps(4),
        scripts=False,
        saves=False,
        call="straight_through",
    ),
    "Conv2dEncoder_v2": Subject(PIQ + "Conv2dEncoder_v2", {"dim": 4}, spectrograms),
    "PSI": Subject(PIQ + "VectorQuantizedPSI_Audio", SMALL, maps(4), saves=False),
    "PSI for FocalNet": Subject(
        PIQ + "VectorQuantizedPSIFocalNet_Audio", SMALL, maps(4), saves=False
    ),
    "PSI for ViT": Subject(
        PIQ + "VectorQuantizedPSIViT_Audio", SMALL, maps(4), saves=False
    ),
    "ResidualVectorQuantizer": Subject(
        RVQ,
        {
            "dimension": 8,
            "codebook_dim": 8,
            "n_q": 3,
            "bins": 16,
            "kmeans_init": False,
        },
        channels_first,
        scripts=False,
        extra=(50,),
    ),
}


def build(subject, ours):
    module, name = subject.path.rsplit(".", 1)
    if ours:
        module = "sb_espnet_vq." + module.split(".", 1)[1]
    torch.manual_seed(0)
    return getattr(importlib.import_module(module), name)(**subject.arguments)


class Traceable(nn.Module):
    """Calls a method and returns the tensors of its result."""

    def __init__(self, module, subject):
        super().__init__()
        self.module, self.name, self.extra = module, subject.call, subject.extra

    def forward(self, *batch):
        return tensors(getattr(self.module, self.name)(*batch, *self.extra))


def tensors(result):
    if isinstance(result, dict):
        result = tuple(result.values())
    if torch.is_tensor(result):
        result = (result,)
    return tuple(each for each in result if torch.is_tensor(each))


def converted(subject, module, how):
    if how == "script":
        return torch.jit.script(module)
    batch = subject.batch(3, 12)
    return torch.jit.trace(Traceable(module, subject), batch, check_trace=False)


def run(call, subject, size, seed):
    """Return the results and the gradient of the first input, if any."""
    torch.manual_seed(seed)
    x, *rest = subject.batch(*size)
    x.requires_grad_()
    outputs = tensors(call(x, *rest))
    learned = [each.sum() for each in outputs if each.requires_grad]
    if not learned:
        return outputs
    (grad,) = torch.autograd.grad(sum(learned), x, allow_unused=True)
    return outputs if grad is None else (*outputs, grad)


def saved(scripted):
    stored = io.BytesIO()
    torch.jit.save(scripted, stored)
    stored.seek(0)
    return torch.jit.load(stored)


TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
CASES = [
    (name, how, training)
    for name, subject in SUBJECTS.items()
    for how in ("script", "trace")
    for training in (True, False)
    if how == "trace" or subject.scripts
]


@pytest.mark.parametrize(("name", "how", "training"), CASES)
def test_other_sizes_and_gradients(name, how, training):
    """Equal to eager results, for sizes other than the traced one."""
    subject = SUBJECTS[name]
    module = build(subject, ours=True).train(training)
    call = converted(subject, module, how)
    for seed, size in enumerate([(3, 12), (2, 40), (5, 4)]):
        calls = [call]
        if how == "trace" or subject.saves:
            calls.append(saved(call))
        # A training step changes buffers: all start from the same state.
        alone = Traceable(copy.deepcopy(module), subject)
        expected = run(alone, subject, size, seed)
        for each in calls:
            got = run(each, subject, size, seed)
            for one, other in zip(got, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "how", "training"), CASES)
def test_upstream_can_do_the_same(name, how, training):
    """The expected support is that of upstream."""
    subject = SUBJECTS[name]
    if how == "script" and not subject.saves and TORCH >= (2, 13):
        pytest.skip(
            "upstream calls autograd functions, which torch 2.14 does not script"
        )
    module = build(subject, ours=False).train(training)
    call = converted(subject, module, how)
    run(call, subject, (2, 40), 0)
    if subject.saves and name != "ResidualVectorQuantizer":
        run(saved(call), subject, (2, 40), 0)


@pytest.mark.parametrize("name", ["Gumbel", "ResidualVectorQuantizer"])
def test_upstream_cannot_be_scripted(name):
    with pytest.raises((RuntimeError, torch.jit.frontend.NotSupportedError)):
        torch.jit.script(build(SUBJECTS[name], ours=False))


@pytest.mark.parametrize("name", ["RandomProjection", "BSQ"])
def test_a_script_shares_state_and_switches(name):
    module = build(SUBJECTS[name], ours=True)
    scripted = torch.jit.script(module)
    assert scripted.training
    assert scripted.state_dict().keys() == module.state_dict().keys()
    for key, value in module.state_dict().items():
        assert scripted.state_dict()[key].data_ptr() == value.data_ptr()
    assert not torch.jit.script(module.eval()).training


@pytest.mark.parametrize("name", ["RandomProjection", "BSQ"])
@pytest.mark.parametrize("how", ["script", "trace"])
def test_frames_that_are_not_finite(name, how):
    subject = SUBJECTS[name]
    module = build(subject, ours=True).eval()
    (x,) = subject.batch(2, 9)
    x[0, 3, 1], x[1, 2, 0] = torch.nan, -torch.inf
    expected = tensors(module(x))
    got = tensors(converted(subject, module, how)(x))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


@pytest.mark.parametrize("name", ["RandomProjection", "BSQ"])
def test_autocast_changes_no_code_of_a_script(name):
    subject = SUBJECTS[name]
    scripted = torch.jit.script(build(subject, ours=True))
    batch = subject.batch(4, 500)
    expected = tensors(scripted(*batch))
    with torch.autocast("cpu", torch.bfloat16):
        got = tensors(scripted(*batch))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_script_leaves_out_padding():
    module = build(SUBJECTS["BSQ"], ours=True)
    x, mask = torch.randn(2, 30, 5), torch.arange(30) < torch.tensor([[30], [7]])
    for one, other in zip(
        torch.jit.script(module)(x, 100.0, mask), module(x, mask=mask), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_many_frames_are_scripted_in_tiles():
    """Three tiles of them, the last one shorter."""
    torch.manual_seed(0)
    quantiser = importlib.import_module(
        "sb_espnet_vq.nnet.quantisers"
    ).RandomProjectionQuantizer(8, 4, 8192)
    x = torch.randn(1, 300, 8)
    assert torch.equal(torch.jit.script(quantiser)(x), quantiser(x))


@pytest.mark.parametrize("name", ["RandomProjection", "BSQ", "PSI"])
def test_speechbrain_trains_with_jit(name):
    from speechbrain.core import Brain

    subject = SUBJECTS[name]
    module = build(subject, ours=True)

    class Tiny(Brain):
        def compute_forward(self, batch, stage):
            x, *rest = batch
            return tensors(self.modules.quantizer(self.modules.front(x), *rest))

        def compute_objectives(self, predictions, batch, stage):
            return sum(each.float().mean() for each in predictions)

    batch = subject.batch(3, 12)
    front = nn.Linear(batch[0].shape[-1], batch[0].shape[-1])
    before = copy.deepcopy(front.state_dict())
    brain = Tiny(
        {"front": front, "quantizer": module},
        lambda parameters: torch.optim.SGD(parameters, 0.1),
        run_opts={"jit": True, "device": "cpu"},
    )
    if name == "RandomProjection":
        # Labels have no gradient: the step is that of the front end's own mean.
        brain.compute_objectives = lambda predictions, batch, stage: (
            predictions[0].float().mean() + brain.modules.front(batch[0]).mean()
        )
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    brain.fit(range(1), loader, progressbar=False)
    assert isinstance(brain.modules.quantizer, torch.jit.ScriptModule)
    assert not torch.equal(before["bias"], brain.modules.front.state_dict()["bias"])
