"""PIQ's modules against SpeechBrain's, and where ours are right and those are not."""

import copy
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models import PIQ as upstream
from torch import nn

from sb_espnet_vq import ConfigError, ShapeError
from sb_espnet_vq.lobes.models import PIQ as ours

DECODERS = [
    "VectorQuantizedPSI_Audio",
    "VectorQuantizedPSIFocalNet_Audio",
    "VectorQuantizedPSIViT_Audio",
]
# codebook vectors, width, classes, shared codebook vectors
SIZES = [(20, 8, 3, 5), (64, 4, 10, 0), (51, 16, 50, 1), (33, 5, 1, 7), (12, 3, 12, 0)]


def _both(name, *args, **options):
    """Build one of our modules and upstream's, from the same seed."""
    built = []
    for module in (ours, upstream):
        torch.manual_seed(1)
        built.append(getattr(module, name)(*args, **options))
    return built


def _same_state(mine, theirs):
    """Assert equal names and values, and that each loads the other's checkpoint."""
    state, other = mine.state_dict(), theirs.state_dict()
    assert list(state) == list(other)
    for name, value in state.items():
        torch.testing.assert_close(value, other[name], msg=name)
    mine.load_state_dict(other, strict=True)
    theirs.load_state_dict(state, strict=True)


def _far_apart(module):
    """Spread the keys out, so that rounding decides no choice between two."""
    with torch.no_grad():
        module.embedding.weight.normal_(generator=torch.Generator().manual_seed(3))


def _close(mine, theirs):
    """Assert that floats agree to 1e-5 of the largest, and the rest exactly."""
    assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
    scale = theirs.abs().max().item() if theirs.numel() else 1.0
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * scale)


def _parameters(name):
    found = inspect.signature(getattr(ours, name)).parameters.values()
    expected = inspect.signature(getattr(upstream, name)).parameters.values()
    return [[(p.name, p.kind, p.default) for p in each] for each in (found, expected)]


@pytest.mark.parametrize(
    "name",
    [
        *DECODERS,
        "Conv2dEncoder_v2",
        "ResBlockAudio",
        "VQEmbedding",
        "get_irrelevant_regions",
        "weights_init",
    ],
)
def test_constructors_are_upstreams(name):
    mine, theirs = _parameters(name)
    assert mine[: len(theirs)] == theirs
    # Our additional arguments are keyword-only.
    added = {(name, kind) for name, kind, _ in mine[len(theirs) :]}
    only = inspect.Parameter.KEYWORD_ONLY
    assert added <= {("quantizer", only), ("quantizer_conf", only)}


@pytest.mark.parametrize("name", ["forward", "straight_through"])
def test_methods_take_upstreams_names(name):
    found = inspect.signature(getattr(ours.VQEmbedding, name)).parameters
    expected = inspect.signature(getattr(upstream.VQEmbedding, name)).parameters
    assert list(found) == list(expected)


def test_the_module_offers_every_name_and_needs_no_speechbrain():
    public = {
        name
        for name, value in vars(upstream).items()
        if getattr(value, "__module__", "") == upstream.__name__
    }
    assert public == set(ours.__all__)
    code = (
        "import sys, sb_espnet_vq.lobes.models.PIQ; print('speechbrain' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert done.stdout.strip() == "False"


def test_a_recipe_changes_the_first_word_of_the_path():
    yaml = (
        "psi_model: !new:{}.lobes.models.PIQ.VectorQuantizedPSI_Audio\n"
        "    dim: 4\n    K: 64\n    shared_keys: 8\n    numclasses: 5\n"
    )
    built = []
    for word in ("sb_espnet_vq", "speechbrain"):
        torch.manual_seed(1)
        built.append(load_hyperpyyaml(yaml.format(word))["psi_model"])
    _same_state(*built)


# Codes available to a class


@pytest.mark.parametrize("stage", ["TRAIN", "VALID"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
def test_irrelevant_regions(stage, dtype):
    for keys, _, classes, shared in [*SIZES, (5, 0, 9, 2), (1024, 0, 50, 0)]:
        labels = torch.randint(classes, (6,)).to(dtype)
        mine, theirs = (
            module.get_irrelevant_regions(labels, keys, classes, shared, stage)
            for module in (ours, upstream)
        )
        assert mine.dtype == torch.bool and torch.equal(mine, theirs)


# The dictionary


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("partition", [True, False])
@pytest.mark.parametrize("keys, dim, classes, shared", SIZES)
def test_dictionary(keys, dim, classes, shared, partition, training):
    pair = _both("VQEmbedding", keys, dim, classes, partition, shared)
    _same_state(*pair)
    z = torch.randn(4, dim, 6, 5)
    weight = torch.randn(2, 4, dim, 6, 5)
    labels = torch.randint(classes, (4,)).float()
    results = []
    for module in pair:
        _far_apart(module)
        module.train(training)
        x = z.clone().requires_grad_()
        passed, bar = module.straight_through(x, labels)
        assert passed.is_contiguous() and bar.is_contiguous()
        (passed * weight[0] + bar * weight[1]).sum().backward()
        results.append([passed, bar, x.grad, module.embedding.weight.grad])
    for mine, theirs in zip(*results, strict=True):
        _close(mine.detach(), theirs.detach())


@pytest.mark.parametrize("training", [True, False])
def test_dictionary_gives_each_result_its_own_gradient(training):
    module = ours.VQEmbedding(20, 8, 2, shared_keys=4).train(training)
    z = torch.randn(2, 8, 3, 3, requires_grad=True)
    passed, bar = module.straight_through(z, torch.tensor([0, 1]))
    passed.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))
    assert module.embedding.weight.grad is None
    bar.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))
    assert module.embedding.weight.grad.sum() == bar.numel()


def test_new_codebooks_differ_from_upstream_only_in_near_ties():
    # New codebook vectors are so close to zero that rounding in upstream's sum of
    # squares removes much of their difference.
    mine, theirs = _both("VQEmbedding", 1024, 64, 50)
    z, labels = torch.randn(8, 64, 10, 10), torch.randint(50, (8,))
    first = mine.straight_through(z, labels)[0].detach().double()
    other = theirs.straight_through(z, labels)[0].detach().double()
    gap = (z - first).square().sum(1) - (z - other).square().sum(1)
    # Ours is never farther away but by rounding of its own, and upstream's never
    # by more than a few units in the last place of |z|^2.
    assert gap.max() < 1e-7 and gap.min() > -1e-4
    assert (first == other).all(1).float().mean() > 0.98


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("keys, dim, classes, shared", SIZES)
def test_key_numbers(keys, dim, classes, shared, training):
    module = ours.VQEmbedding(keys, dim, classes, shared_keys=shared).train(training)
    _far_apart(module)
    z, labels = torch.randn(4, dim, 6, 5), torch.randint(classes, (4,))
    x = z.permute(0, 2, 3, 1).contiguous()
    options = (classes, True, shared, training)
    expected = upstream.VectorQuantization.apply(
        x, module.embedding.weight, labels, *options
    )
    codes = module(z, labels)
    assert codes.dtype == torch.int64 and torch.equal(codes, expected)
    assert not codes.requires_grad


def test_dictionary_of_upstreams_fixed_configuration_equals_upstream():
    pair = _both("VQEmbedding", 40, 8, 10, shared_keys=10)
    z, labels = torch.randn(4, 8, 6, 5), torch.randint(10, (4,))
    for module in pair:
        _far_apart(module)
    assert torch.equal(pair[0](z, labels), pair[1](z, labels))


def test_labels_of_any_whole_kind():
    module = ours.VQEmbedding(20, 8, 3, shared_keys=5)
    z, labels = torch.randn(3, 8, 4, 4), torch.tensor([1, 0, 2])
    expected = module(z, labels)
    for other in (labels.float(), labels.half(), labels.byte(), labels[:, None]):
        assert torch.equal(module(z, other), expected)


def test_nothing_to_quantize():
    module = ours.VQEmbedding(20, 8, 3)
    for shape in [(0, 8, 4, 4), (2, 8, 0, 4)]:
        labels = torch.zeros(shape[0])
        assert module(torch.zeros(shape), labels).shape == (shape[0], *shape[2:])
        passed, bar = module.straight_through(torch.zeros(shape), labels)
        assert passed.shape == bar.shape == shape


def test_copies_of_the_dictionary_give_the_same():
    module = ours.VQEmbedding(20, 8, 3, shared_keys=5)
    z, labels = torch.randn(3, 8, 4, 4), torch.tensor([1, 0, 2])
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):  # noqa: S301
        assert torch.equal(other(z, labels), module(z, labels))


def test_dictionary_compiles_whole_and_exports():
    module = ours.VQEmbedding(20, 8, 3, shared_keys=5).eval()
    z, labels = torch.randn(3, 8, 4, 4), torch.tensor([1, 0, 2])
    compiled = torch.compile(module.straight_through, fullgraph=True, backend="eager")
    for mine, theirs in zip(
        compiled(z, labels), module.straight_through(z, labels), strict=True
    ):
        assert torch.equal(mine, theirs)
    batch, height = torch.export.Dim("batch"), torch.export.Dim("height")
    exported = torch.export.export(
        module,
        (z, labels),
        dynamic_shapes={"z_e_x": {0: batch, 2: height}, "labels": {0: batch}},
    ).module()
    z, labels = torch.randn(5, 8, 7, 4), torch.tensor([1, 0, 2, 2, 1])
    assert torch.equal(exported(z, labels), module(z, labels))


@pytest.mark.parametrize(
    "z, labels, message",
    [
        (torch.zeros(2, 7, 4, 4), torch.zeros(2), "do not fit"),
        (torch.zeros(2, 8, 4, 4).long(), torch.zeros(2), "must be float"),
        (torch.zeros(2, 8, 4, 4), torch.zeros(3), "one for each item"),
        (torch.zeros(8), None, "takes"),
    ],
)
def test_wrong_shapes_are_explained(z, labels, message):
    module = ours.VQEmbedding(20, 8, 3)
    for call in (module, module.straight_through):
        with pytest.raises(ShapeError, match=message):
            call(z, labels)


# The functions


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("partition", [True, False])
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_straight_through_function(needs, partition, training):
    for keys, dim, classes, shared in SIZES:
        inputs, codebook = torch.randn(3, 4, 5, dim), torch.randn(keys, dim)
        labels, weight = torch.randint(classes, (3,)), torch.randn(3, 4, 5, dim)
        results = []
        for module in (ours, upstream):
            x = inputs.clone().requires_grad_(needs[0])
            table = codebook.clone().requires_grad_(needs[1])
            values, codes = module.VectorQuantizationStraightThrough.apply(
                x, table, labels, classes, partition, shared, training
            )
            assert not codes.requires_grad
            (values * weight).sum().backward()
            results.append([values.detach(), codes, x.grad, table.grad])
        for mine, theirs in zip(*results, strict=True):
            if theirs is None:
                assert mine is None
            else:
                _close(mine, theirs)


def test_functions_have_upstreams_defaults():
    inputs, codebook = torch.randn(3, 4, 5, 8), torch.randn(40, 8)
    labels = torch.tensor([1.0, 0.0, 9.0])
    codes, expected = (
        module.VectorQuantization.apply(inputs, codebook, labels)
        for module in (ours, upstream)
    )
    assert torch.equal(codes, expected)
    _, flat = ours.VectorQuantizationStraightThrough.apply(inputs, codebook, labels)
    assert torch.equal(flat, expected.flatten())


@pytest.mark.parametrize("module", [ours, upstream])
def test_key_numbers_have_no_gradient(module):
    inputs = torch.randn(1, 2, 2, 8, requires_grad=True)
    codes = module.VectorQuantization.apply(inputs, torch.randn(40, 8), torch.zeros(1))
    assert not codes.requires_grad
    with pytest.raises(RuntimeError):
        codes.sum().backward()
    with pytest.raises(RuntimeError, match="VectorQuantizationStraightThrough"):
        module.VectorQuantization.backward(None, codes)


# The networks


def _step(module, *inputs):
    """Return results, gradients and buffers of one forward and backward."""
    inputs = [x.clone().requires_grad_(x.dim() > 1) for x in inputs]
    found = module(*inputs)
    found = list(found) if isinstance(found, tuple) else [found]
    loss = found[0].square().mean()
    if len(found) == 3:
        _, hcat, keys = found
        loss = loss + (hcat.detach() - keys).square().mean()
        loss = loss + (hcat - keys.detach()).square().mean()
    loss.backward()
    grads = {name: p.grad for name, p in module.named_parameters()}
    grads["input"] = inputs[0].grad
    return [x.detach() for x in found], grads, dict(module.named_buffers())


def _same_step(pair, *inputs):
    """Assert equal results, gradients and running statistics."""
    mine, theirs = (_step(module, *inputs) for module in pair)
    for first, other in zip(mine[0], theirs[0], strict=True):
        _close(first, other)
    assert list(mine[1]) == list(theirs[1])
    for name, grad in theirs[1].items():
        _close(mine[1][name], grad)
    for name, buffer in theirs[2].items():
        _close(mine[2][name], buffer)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dim", [4, 9])
def test_encoder(dim, training):
    pair = _both("Conv2dEncoder_v2", dim)
    _same_state(*pair)
    for module in pair:
        module.train(training)
    _same_step(pair, torch.randn(2, 50, 37))


@pytest.mark.parametrize("training", [True, False])
def test_residual_block(training):
    pair = _both("ResBlockAudio", 8)
    _same_state(*pair)
    for module in pair:
        module.train(training)
    _same_step(pair, torch.randn(2, 8, 6, 7))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"adapter_reduce_dim": False, "shared_keys": 9},
        {"use_adapter": False, "adapter_reduce_dim": False},
        {"activate_class_partitioning": False, "shared_keys": 3},
        {"numclasses": 4, "shared_keys": 30},
    ],
)
@pytest.mark.parametrize("name", DECODERS)
def test_decoders(name, options, training):
    pair = _both(name, dim=4, K=64, **options)
    _same_state(*pair)
    for module in pair:
        _far_apart(module.codebook)
        module.train(training)
    _same_step(pair, torch.randn(3, 4, 4, 4), torch.tensor([0.0, 3.0, 2.0]))


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_have_upstreams_default_sizes(name):
    with torch.device("meta"):
        # Upstream's construction needs no values either, ours counts keys.
        theirs = getattr(upstream, name)().state_dict()
        mine = getattr(ours, name)().state_dict()
    assert {k: v.shape for k, v in mine.items()} == {
        k: v.shape for k, v in theirs.items()
    }


def test_decoders_are_kin_as_upstreams_are():
    for name in DECODERS:
        bases = [getattr(module, name).__mro__ for module in (ours, upstream)]
        assert len({tuple(c.__name__ for c in base) for base in bases}) == 1


def test_weights_init():
    def layers():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv1d(3, 4, 5),
            nn.Sequential(nn.ConvTranspose2d(2, 3, 4), nn.BatchNorm2d(3)),
            nn.Linear(4, 4),
            nn.Conv2d(2, 2, 1, bias=False),
            upstream.Conv2dEncoder_v2(4),
        )

    _same_state(
        layers().apply(ours.weights_init), layers().apply(upstream.weights_init)
    )


# The examples of the published documentation, at the sizes that they name


def test_example_irrelevant_regions():
    labels = torch.Tensor([1, 0, 2])
    closed = ours.get_irrelevant_regions(labels, 20, 3, 5)
    assert closed.shape == torch.Size([3, 20])


def test_example_functions():
    inputs, codebook = torch.ones(3, 14, 25, 256), torch.randn(1024, 256)
    labels = torch.Tensor([1, 0, 2])
    codes = ours.VectorQuantization.apply(inputs, codebook, labels)
    assert codes.shape == torch.Size([3, 14, 25])
    quant, quant_ind = ours.VectorQuantizationStraightThrough.apply(
        inputs, codebook, labels
    )
    assert quant.shape == torch.Size([3, 14, 25, 256])
    assert quant_ind.shape == torch.Size([1050])


def test_example_dictionary():
    inputs, labels = torch.ones(3, 256, 14, 25), torch.Tensor([1, 0, 2])
    codebook = ours.VQEmbedding(1024, 256)
    assert codebook(inputs, labels).shape == torch.Size([3, 14, 25])
    quant, quant_bar = codebook.straight_through(inputs, labels)
    assert quant.shape == quant_bar.shape == torch.Size([3, 256, 14, 25])


def test_example_residual_block():
    # The published example prints the shape of its input.
    x = torch.randn(2, 128, 16, 16)
    assert ours.ResBlockAudio(128)(x).shape == torch.Size([2, 128, 16, 16])


def test_example_encoder():
    with torch.no_grad():
        embeddings = ours.Conv2dEncoder_v2()(torch.ones(3, 431, 513))
    assert embeddings.shape == torch.Size([3, 256, 26, 32])


@pytest.mark.parametrize(
    "name, dim, size",
    [
        (DECODERS[0], 256, (257, 257)),
        (DECODERS[1], 16, (495, 593)),
        (DECODERS[2], 16, (495, 593)),
    ],
)
def test_example_decoders(name, dim, size):
    psi = getattr(ours, name)(dim=dim, K=1024)
    x, labels = torch.randn(2, dim, 16, 16), torch.Tensor([0, 2])
    with torch.no_grad():
        logspectra, hcat, z_q_x = psi(x, labels)
    assert logspectra.shape == torch.Size([2, 1, *size])
    assert hcat.shape == z_q_x.shape == torch.Size([2, dim, 8, 8])


# Where upstream is wrong (docs/deviations.md)


def test_forward_keeps_the_configuration():
    z, labels = torch.randn(2, 8, 9, 9), torch.tensor([0, 2])
    mine, theirs = _both("VQEmbedding", 40, 8, 3, shared_keys=4)
    for module in (mine, theirs):
        _far_apart(module.eval())
    closed = upstream.get_irrelevant_regions(labels, 40, 3, 4, "VALID")
    outside = [
        closed.gather(1, module(z, labels).flatten(1)).any()
        for module in (mine, theirs)
    ]
    assert outside == [False, True]
    passed, _ = mine.straight_through(z, labels)
    assert torch.equal(
        mine.embedding(mine(z, labels)).detach().movedim(-1, 1), passed.detach()
    )
    # Without partition there is nothing that a label could forbid.
    free, ignored = _both("VQEmbedding", 40, 8, 3, False)
    for module in (free, ignored):
        _far_apart(module)
    assert torch.equal(free(z, labels), free(z))
    assert not torch.equal(ignored(z, labels), free(z))
    # It can be switched off later, as upstream's can in its other method.
    mine.activate_class_partitioning = False
    assert torch.equal(mine(z, labels), mine(z))


@pytest.mark.parametrize("partition", [True, False])
def test_without_labels_all_codes_are_available(partition):
    mine, theirs = _both("VQEmbedding", 40, 8, 3, partition, shared_keys=4)
    _far_apart(mine)
    z = torch.randn(2, 8, 9, 9)
    x = z.movedim(1, -1)
    expected = torch.cdist(x.flatten(0, 2), mine.embedding.weight).argmin(1)
    assert torch.equal(mine(z).flatten(), expected)
    passed, _ = mine.straight_through(z)
    assert torch.equal(
        passed.movedim(1, -1).flatten(0, 2), mine.embedding.weight[expected]
    )
    codes = ours.VectorQuantization.apply(x, mine.embedding.weight)
    assert torch.equal(codes.flatten(), expected)
    with pytest.raises(AttributeError):
        theirs.straight_through(z)


@pytest.mark.parametrize("sizes", [(10, 4, 50, 0), (52, 4, 50, 3), (4, 4, 1, 4)])
def test_a_class_without_keys_is_refused(sizes):
    keys, dim, classes, shared = sizes
    with pytest.raises(ConfigError, match="keys"):
        ours.VQEmbedding(keys, dim, classes, shared_keys=shared)
    with pytest.raises(ConfigError, match="keys"):
        ours.VectorQuantization.apply(
            torch.zeros(1, 1, 1, dim), torch.zeros(keys, dim), torch.zeros(1), classes,
            True, shared,
        )  # fmt: skip
    # Without partition any size will do.
    ours.VQEmbedding(keys, dim, classes, False, shared)


def test_upstream_gives_key_zero_to_a_class_without_keys():
    table, x = torch.randn(10, 4), torch.randn(1, 3, 3, 4)
    codes = upstream.VectorQuantization.apply(x, table, torch.tensor([1]), 50, True, 0)
    assert (codes == 0).all()


def test_an_unknown_label_is_refused():
    mine, theirs = _both("VQEmbedding", 40, 8, 3)
    z = torch.randn(2, 8, 3, 3)
    for labels in ([0, 3], [-1, 0], [0.5, 1.0], [0.0, float("nan")]):
        with pytest.raises(ValueError, match="labels must be integers"):
            mine.straight_through(z, torch.tensor(labels))
        passed, _ = theirs.straight_through(z, torch.tensor(labels))
        assert passed.isfinite().all()


def test_an_unknown_label_turns_into_nan_where_nothing_can_be_raised():
    module = ours.VQEmbedding(40, 8, 3)
    compiled = torch.compile(module.straight_through, fullgraph=True, backend="eager")
    z, labels = torch.randn(3, 8, 2, 2), torch.tensor([0, 3, 2])
    for found in compiled(z, labels):
        assert found[1].isnan().all() and found[0::2].isfinite().all()


@pytest.mark.parametrize("name", DECODERS)
def test_without_adapter_nothing_is_reduced(name):
    options = {"dim": 4, "K": 64, "use_adapter": False}
    mine, theirs = _both(name, **options)
    _same_state(mine, theirs)
    hs, labels = torch.randn(2, 4, 4, 4), torch.tensor([0, 1])
    with pytest.raises(AttributeError, match="down"):
        theirs(hs, labels)
    spectrogram, hcat, z_q_x = mine(hs, labels)
    assert hcat is hs and z_q_x.shape == hs.shape
    plain = getattr(ours, name)(**options, adapter_reduce_dim=False)
    plain.load_state_dict(mine.state_dict(), strict=True)
    assert torch.equal(plain(hs, labels)[0], spectrogram)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_code(dtype):
    mine, theirs = _both("VQEmbedding", 1024, 64, 50)
    z, labels = torch.randn(8, 64, 8, 8), torch.randint(50, (8,))
    kept = []
    for module in (mine, theirs):
        expected, _ = module.straight_through(z, labels)
        with torch.autocast("cpu", dtype):
            found, bar = module.straight_through(z, labels)
        assert found.dtype == bar.dtype == torch.float32
        kept.append((found == expected).all(1).float().mean().item())
    assert kept[0] == 1.0 and kept[1] < 0.9
    # Low-precision frames of a layer under autocast are searched without conversion.
    low = z.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype):
        found, _ = mine.straight_through(low, labels)
    assert torch.equal(found, mine.straight_through(low.float(), labels)[0])
    found.sum().backward()
    assert torch.equal(low.grad, torch.ones_like(low))


def test_a_vector_that_is_not_finite_stays_visible():
    mine, theirs = _both("VQEmbedding", 40, 8, 3)
    clean, labels = torch.randn(2, 8, 3, 3), torch.tensor([0, 2])
    z = clean.clone()
    z[0, 4, 1, 1], z[1, 0, 0, 2] = float("nan"), float("inf")
    codes, expected = mine(z, labels), mine(clean, labels)
    bad = torch.zeros(2, 3, 3, dtype=torch.bool)
    bad[0, 1, 1] = bad[1, 0, 2] = True
    assert torch.equal(codes, expected.masked_fill(bad, -1))
    passed, bar = mine.straight_through(z.requires_grad_(), labels)
    for found in (passed, bar):
        assert torch.equal(found.isnan(), bad[:, None].expand_as(found))
    bar.nansum().backward()
    assert mine.embedding.weight.grad.sum() == bar.isfinite().sum()
    table = mine.embedding.weight.detach().requires_grad_()
    values, flat = ours.VectorQuantizationStraightThrough.apply(
        z.detach().movedim(1, -1), table, labels, 3, True, 0
    )
    assert torch.equal(flat, codes.flatten())
    values.nansum().backward()
    assert torch.equal(table.grad, mine.embedding.weight.grad)
    assert theirs.straight_through(z, labels)[1].isfinite().all()


def test_weights_init_is_silent(capsys):
    layers = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), ours.Conv2dEncoder_v2(2))
    layers.apply(ours.weights_init)
    assert capsys.readouterr().out == ""
    layers.apply(upstream.weights_init)
    assert "Skipping" in capsys.readouterr().out


def test_a_spectrogram_that_is_too_small_is_explained():
    for shape in [(2, 1, 50, 37), (2, 15, 37), (2, 37, 15)]:
        with pytest.raises(ShapeError, match="at least 16 frames"):
            ours.Conv2dEncoder_v2(2)(torch.zeros(shape))


def test_both_values_have_memory_of_their_own():
    dictionary = ours.VQEmbedding(20, 8, numclasses=2)
    z, labels = torch.randn(2, 8, 5, 4), torch.tensor([0, 1])
    with torch.no_grad():
        passed, bar = dictionary.straight_through(z, labels)
    before = bar.clone()
    passed.relu_()
    assert torch.equal(bar, before)


@pytest.mark.parametrize("name", DECODERS)
def test_an_interpreter_takes_a_quantizer_by_name(name):
    kind = getattr(ours, name)
    psi = kind(dim=4, K=16, quantizer="vq", quantizer_conf={"decay": 0.9}).train()
    labels = torch.tensor([0, 2])
    spectrogram, hcat, keys = psi(torch.randn(2, 4, 4, 4), labels)
    assert hcat.shape == keys.shape == (2, 4, 2, 2) and spectrogram.shape[:2] == (2, 1)
    assert psi.codebook.quantizer.codebook_size == 16
    fresh = kind(dim=4, K=16, quantizer="vq")
    fresh.load_state_dict(psi.state_dict())
    with pytest.raises(ConfigError, match="unknown quantizer 'vqq'"):
        kind(dim=4, K=16, quantizer="vqq")
